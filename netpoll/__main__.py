"""`python -m netpoll` is the command `netpoll`."""

import sys

from netpoll.cli import main

if __name__ == "__main__":
    sys.exit(main())
