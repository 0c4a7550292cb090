"""A chat server: what one client writes goes to all the others. Try it with `nc 127.0.0.1 PORT`,
twice.

A client that does not read what the others write has at most LIMIT bytes waiting for it. Then it is
disconnected: one sleeper shall cost neither memory nor anybody else's time.
"""

import contextlib
import socket
from collections import deque
from typing import Any

import netpoll

LIMIT = 256 * 1024
LINE = 4096
"""The longest message; what is longer goes out in pieces."""


class Chat:
    """Who is here. It is also the key of the listener."""

    def __init__(self, port: netpoll.CompletionPort, listener: socket.socket) -> None:
        self.port = port
        self.clients: set[Client] = set()
        self._count = 0
        port.associate(listener, self)
        port.accept(listener)

    def completed(self, completion: netpoll.Completion) -> None:
        """An accept has ended."""
        if not completion.error:
            sock, _ = completion.result()
            self._count += 1
            client = Client(self, sock, f"guest {self._count}")
            self.clients.add(client)
            client.start()
        self.port.resubmit(completion.overlapped)

    def say(self, text: str, author: "Client") -> None:
        """Tell everybody but the author."""
        for client in self.clients - {author}:
            client.tell(text.encode())


class Client:
    """One connection: a receive that is always in flight, and a send when there is something to
    say.
    """

    def __init__(self, chat: Chat, sock: socket.socket, name: str) -> None:
        self.chat = chat
        self.port = chat.port
        self.sock = sock
        self.name = name
        self._buffer = bytearray(LINE)
        self._line = b""
        self._receive: netpoll.Overlapped[int] = netpoll.Overlapped()
        self._send: netpoll.Overlapped[int] = netpoll.Overlapped()
        self._sending = False
        self._waiting: deque[bytes] = deque()
        self._size = 0
        """Bytes in `_waiting` and in the send that is in flight."""

    def start(self) -> None:
        """Begin to listen to the client."""
        try:
            self.port.associate(self.sock, self)
            self.port.recv_into(self.sock, self._buffer, overlapped=self._receive)
        except OSError:
            self.leave()
        else:
            self.tell(f"welcome, {self.name}; {len(self.chat.clients)} here\n".encode())
            self.chat.say(f"* {self.name} came\n", self)

    def completed(self, completion: netpoll.Completion) -> None:
        """An operation of this client has ended."""
        try:
            moved = completion.result()
            if completion.overlapped is self._send:
                self._sent(moved)
            elif moved:
                self._received(bytes(self._buffer[:moved]))
                self.port.resubmit(self._receive)
            else:
                self.leave()
        except OSError:
            self.leave()  # also of one who has left: that is how what was in flight ends

    def _received(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > LINE:
            lines.append(self._line)
            self._line = b""
        for line in lines:
            self.chat.say(f"{self.name}: {line.decode(errors='replace')}\n", self)

    def tell(self, message: bytes) -> None:
        """Have `message` sent, after what is waiting already."""
        self._size += len(message)
        if self._size > LIMIT:
            self._disconnect()
            return
        self._waiting.append(message)
        if not self._sending:
            self._send_waiting()

    def _sent(self, size: int) -> None:
        self._sending = False
        self._size -= size
        if self._waiting:
            self._send_waiting()

    def _send_waiting(self) -> None:
        """Everything that waits goes out in one operation, which needs no copy of it."""
        messages = list(self._waiting)
        self._waiting.clear()
        try:
            self.port.send(self.sock, messages, overlapped=self._send)
            self._sending = True
        except OSError:
            self._disconnect()

    def _disconnect(self) -> None:
        """The receive that is in flight ends now, and with its completion the client leaves."""
        self.port.close_handle(self.sock)

    def leave(self) -> None:
        """The client is gone; whatever of it was in flight ends with an error."""
        if self in self.chat.clients:
            self.chat.clients.remove(self)
            self._disconnect()
            self.chat.say(f"* {self.name} left\n", self)


def main() -> None:
    with netpoll.CompletionPort() as port, socket.create_server(("127.0.0.1", 0)) as listener:
        Chat(port, listener)
        print("listening on port", listener.getsockname()[1], flush=True)
        while True:
            for completion in port.get_many():
                key: Any = completion.key
                key.completed(completion)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
