"""One completion interface: I/O completion ports, OVERLAPPED semantics, on every OS.

See `CompletionPort`. `docs/contract.md` says what a program may rely on.
"""

from typing import TYPE_CHECKING

from netpoll.backends import Candidate
from netpoll.backends.base import Capability, Inflight
from netpoll.backends.routines import sleep
from netpoll.config import Selection, configure
from netpoll.errors import AlreadyAssociated, OperationAborted, PortClosed, UnsupportedOperation
from netpoll.files import File, open_file, pipe
from netpoll.messages import Message
from netpoll.overlapped import Completion, Opcode, Overlapped
from netpoll.pools import BufferPool, PooledBuffer
from netpoll.port import CompletionPort

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "AlreadyAssociated",
    "BufferPool",
    "Candidate",
    "Capability",
    "Completion",
    "CompletionPort",
    "File",
    "Inflight",
    "Message",
    "Opcode",
    "OperationAborted",
    "Overlapped",
    "PooledBuffer",
    "PortClosed",
    "Selection",
    "UnsupportedOperation",
    "configure",
    "open_file",
    "pipe",
    "sleep",
]


def __getattr__(name: str) -> str:
    """`__version__`, looked up on demand: it takes half of the modules that netpoll would load."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("netpoll")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
