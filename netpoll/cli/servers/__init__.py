"""The servers of `netpoll serve`, on netpoll's public names only.

* `pump`: one direction of a connection, receive and send in turn, on operations that are prepared
  once;
* `connection`: sockets, the pumps between them, and the one moment at which all of that is over;
* `forward`: a connection that first has to make another one;
* `listener`: accepts;
* `server`: the port, its threads, and an orderly end.
"""
