"""Files and pipes that every backend works on."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Final

from netpoll.finalizers import finalizer

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_os: Any = os
"""For names that are declared on some systems only."""

MODES: Final = {"r", "r+", "w", "w+", "x", "x+", "a", "a+"}


class File:
    """A file, or one end of a pipe: only what operations need. Made by `open_file` and `pipe`.

    On Windows `fileno()` is the HANDLE, opened for overlapped operations, as a socket's is.
    """

    def __init__(self, number: int, name: str, *, has_offsets: bool) -> None:
        """
        :param number: the descriptor or HANDLE, which belongs to this object from now on
        """
        self._number: int = number
        self._closed: bool = False
        self.name: str = name
        self.has_offsets: bool = has_offsets
        """Whether it is a file, with offsets, and not a pipe."""

    def fileno(self) -> int:
        """-1 once it is closed."""
        return self._number

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close it. On Windows that ends what is pending; `CompletionPort.close_handle` does so
        everywhere. Closing twice is harmless."""
        number = self.detach()
        if number >= 0:
            close_number(number)

    def detach(self) -> int:
        """Let go of the descriptor, which the caller has to close; -1 if it is closed."""
        number, self._number = self._number, -1
        self._closed = True
        return number

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @finalizer
    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=3)
            self.close()

    def __repr__(self) -> str:
        state = " closed" if self._closed else f" fd {self._number}"
        return f"<netpoll.File {self.name!r}{state}>"


def open_file(path: str | os.PathLike[str], mode: str = "r") -> File:
    """Open a file for `CompletionPort.read_into` and `CompletionPort.write` (on Windows CreateFileW
    with FILE_FLAG_OVERLAPPED).

    :param mode: as for `open()`: "r", "w", "x" or "a", with "+" for both ways; always binary, so
        that a "b" changes nothing
    :raises ValueError: another mode
    :raises OSError: it cannot be opened
    """
    plain = mode.replace("b", "", 1)
    if plain not in MODES:
        raise ValueError(f"mode is 'r', 'w', 'x' or 'a', each with or without '+', not {mode!r}")
    name = os.fspath(path)
    if os.name == "nt":
        from netpoll.backends.iocp import opening

        number, seekable = opening.open_file(name, plain)
        return File(number, name, has_offsets=seekable)
    number = os.open(name, _flags(plain), 0o666)
    try:
        return File(number, name, has_offsets=is_seekable(number))
    except BaseException:
        os.close(number)
        raise


def pipe() -> tuple[File, File]:
    """A pipe of bytes: the end to read from, and the end to write to (on Windows CreateNamedPipeW
    and CreateFileW with FILE_FLAG_OVERLAPPED)."""
    if os.name == "nt":
        from netpoll.backends.iocp import opening

        near, far = opening.open_pipe()
    else:
        near, far = os.pipe()
    return File(near, "<pipe>", has_offsets=False), File(far, "<pipe>", has_offsets=False)


def close_number(number: int) -> None:
    """Close a descriptor, or a HANDLE."""
    if os.name == "nt":
        from netpoll.backends.iocp import opening

        opening.close(number)
    else:
        os.close(number)


def is_seekable(number: int) -> bool:
    """Whether a descriptor is a file's, and not that of a pipe or a terminal.

    :raises IsADirectoryError: a directory
    """
    import stat

    mode = os.fstat(number).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"fd {number} is a directory")
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _flags(mode: str) -> int:
    # a terminal, or a serial line, does not become that of a program without one
    flags: int = _os.O_CLOEXEC | _os.O_NOCTTY
    if "+" in mode:
        flags |= os.O_RDWR
    else:
        flags |= os.O_RDONLY if mode == "r" else os.O_WRONLY
    return (
        flags
        | {
            "r": 0,
            "w": os.O_CREAT | os.O_TRUNC,
            "x": os.O_CREAT | os.O_EXCL,
            "a": os.O_CREAT | os.O_APPEND,
        }[mode[0]]
    )
