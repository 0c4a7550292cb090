"""Files and pipes: read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netpoll.backends.descriptors import LARGEST_OFFSET
from netpoll.buffers import BufferList, pin
from netpoll.handles import require_file
from netpoll.operations.starter import Starter, check_count
from netpoll.overlapped import Opcode, Overlapped

if TYPE_CHECKING:
    from netpoll.operations.starter import HasFileno, Routine


class Files(Starter):
    """Part of `CompletionPort`: operations on files and pipes.

    A handle is what `netpoll.open_file` and `netpoll.pipe` give; on POSIX any object with a
    `fileno()` that is no socket. What such an object has buffered itself is passed by.
    """

    def read_into(
        self,
        handle: HasFileno,
        buffers: BufferList,
        *,
        offset: int | None = None,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Read into one buffer or several, filled in order (ReadFile).

        Of a file all that there is room for, less only at its end; at the end itself it fails with
        38 (FILE-01). Of a pipe any data, as soon as there is some; once the other end is closed and
        everything was read it fails with 109 (PIPE-03).

        :param offset: where in the file, in bytes; `None` goes on behind the last such start, with
            a position of the port's own that begins at 0 (EMU-35). A pipe has none
        :raises OSError: it failed at once; 87 for an offset in a pipe, or bytes beyond 2**63 - 1
        """
        operation = self._new(Opcode.READ_INTO, handle, overlapped, routine, timeout, require_file)
        operation._address = check_offset(offset)
        return self._begin(operation, buffers, pin(buffers, writable=True), 0)

    def write(
        self,
        handle: HasFileno,
        buffers: BufferList,
        *,
        offset: int | None = None,
        size: int | None = None,
        overlapped: Overlapped[int] | None = None,
        routine: Routine | None = None,
        timeout: float | None = None,
    ) -> Overlapped[int]:
        """Write one buffer or several, in order: all of it, or it fails (WriteFile). A pipe whose
        other end is closed fails with 232, or 109 if the write was pending.

        :param offset: as with `read_into`; a file opened to append does that instead
        :param size: write the first `size` bytes only; a `resubmit` may write more of the buffers
        :raises OSError: it failed at once
        """
        operation = self._new(Opcode.WRITE, handle, overlapped, routine, timeout, require_file)
        operation._address = check_offset(offset)
        return self._begin(operation, buffers, pin(buffers, writable=False), 0, size)


def check_offset(offset: int | None) -> int | None:
    """
    :raises ValueError: negative, too large, or no number
    """
    if offset is not None:
        check_count("offset", offset, 0, LARGEST_OFFSET)
    return offset
