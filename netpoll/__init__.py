"""One completion interface: I/O completion ports, OVERLAPPED semantics, on every OS.

See `CompletionPort`. `docs/contract.md` says what a program may rely on.
"""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

from netpoll.backends import Candidate
from netpoll.backends.base import Capability, Inflight
from netpoll.backends.routines import sleep
from netpoll.config import Selection, configure
from netpoll.errors import AlreadyAssociated, OperationAborted, PortClosed, UnsupportedOperation
from netpoll.overlapped import Completion, Opcode, Overlapped
from netpoll.port import CompletionPort

try:
    __version__ = _version("netpoll")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "AlreadyAssociated",
    "Candidate",
    "Capability",
    "Completion",
    "CompletionPort",
    "Inflight",
    "Opcode",
    "OperationAborted",
    "Overlapped",
    "PortClosed",
    "Selection",
    "UnsupportedOperation",
    "configure",
    "sleep",
]
