"""How the handle of a pipe is read and written on Windows.

One that was opened for overlapped operations: by the port's; where the port has none for pipes
(`selectors`: select() takes sockets only), by those of the system, each told by an event that the
port waits for. One that was not (standard input, what `os.pipe()` makes): by a thread, one call at
a time.
"""

from __future__ import annotations

import abc
import contextlib
import os
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.asyncio.operations import Operation
from netpoll.files import File
from netpoll.finalizers import finalizer
from netpoll.overlapped import Opcode

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.overlapped import Completion, Overlapped

    Told = Callable[[int, OSError | None], object]


def open_handle(loop: Any, pipe: Any) -> Handle:
    """The way that fits the handle and the loop's port. The pipe belongs to it from now on."""
    from asyncio import windows_utils  # Windows only

    utils: Any = windows_utils
    is_handle = isinstance(pipe, (utils.PipeHandle, File))
    if loop.port.capability(Opcode.READ_INTO) == "unsupported":
        return ByEvents(loop, pipe) if is_handle else ByThread(loop, pipe)
    file = _associated(loop, pipe, is_handle)
    return ByThread(loop, pipe) if file is None else ByPort(loop, pipe, file)


def _associated(loop: Any, pipe: Any, is_handle: bool) -> File | None:
    """A handle of our own for the pipe, associated; `None` if it knows no overlapped operations."""
    import msvcrt

    crt: Any = msvcrt  # declared on Windows only
    number = pipe.fileno() if is_handle else crt.get_osfhandle(pipe.fileno())
    file = File(_duplicate(number), "<pipe>", has_offsets=False)
    try:
        loop.port.associate(file)
    except OSError:
        file.close()
        return None
    return file


def _duplicate(number: int) -> int:
    import _winapi

    api: Any = _winapi  # declared on Windows only
    this = api.GetCurrentProcess()
    own: int = api.DuplicateHandle(this, number, this, 0, False, api.DUPLICATE_SAME_ACCESS)
    return own


class Handle(abc.ABC):
    """A pipe's handle: reads and writes, each with its outcome told in the loop's thread, and never
    within the call."""

    is_overlapped = True
    """Whether it knows overlapped operations, which a close ends."""

    def __init__(self, loop: Any, pipe: Any) -> None:
        self._loop = loop
        self._pipe = pipe

    @abc.abstractmethod
    def read(self, buffer: memoryview, told: Told) -> None:
        """Read into `buffer`; 0 bytes are the end."""

    @abc.abstractmethod
    def write(self, data: bytes, told: Told) -> None:
        """Write all of `data`."""

    def close(self) -> None:
        self._pipe.close()


class ByPort(Handle):
    """Operations of the port."""

    def __init__(self, loop: Any, pipe: Any, file: File) -> None:
        super().__init__(loop, pipe)
        self._file = file

    def read(self, buffer: memoryview, told: Told) -> None:
        self._start(self._loop.port.read_into, buffer, told)

    def write(self, data: bytes, told: Told) -> None:
        self._start(self._loop.port.write, data, told)

    def close(self) -> None:
        self._loop.port.close_handle(self._file)
        super().close()

    def _start(self, method: Any, buffer: Any, told: Told) -> None:
        def ended(completion: Completion) -> None:
            told(completion.transferred, completion.exception())

        try:
            method(self._file, buffer, overlapped=Operation(ended))
        except OSError as error:
            self._loop.call_soon(told, 0, error)


class _Event:
    """What the port waits for."""

    def __init__(self, handle: int) -> None:
        self.handle: int = handle


class ByEvents(Handle):
    """Overlapped operations of the system, and a wait of the port's for the event of each."""

    _own: int | None = None
    """Open for as long as any of them is under way, whoever closes the pipe."""

    def __init__(self, loop: Any, pipe: Any) -> None:
        import _winapi  # what multiprocessing reads its pipes with

        super().__init__(loop, pipe)
        self._api: Any = _winapi
        self._pending: dict[Any, Overlapped[Any]] = {}
        """The system's operations, each with the wait for it."""
        self._own = _duplicate(pipe.fileno())

    def read(self, buffer: memoryview, told: Told) -> None:
        def take(started: Any, size: int) -> None:
            buffer[:size] = started.getbuffer()

        self._start(self._api.ReadFile, len(buffer), take, told)

    def write(self, data: bytes, told: Told) -> None:
        self._start(self._api.WriteFile, data, None, told)

    def close(self) -> None:
        for wait in self._pending.values():
            wait.cancel()
        self._let_go()
        super().close()

    @finalizer
    def __del__(self) -> None:
        self._let_go()  # where the loop was closed before the transport

    def _let_go(self) -> None:
        pending, self._pending = self._pending, {}
        for started in pending:
            _call_off(started)
        own, self._own = self._own, None
        if own is not None:
            self._api.CloseHandle(own)

    def _start(
        self, call: Any, what: int | bytes, take: Callable[[Any, int], None] | None, told: Told
    ) -> None:
        def outcome() -> tuple[int, OSError | None]:
            try:
                size: int = started.GetOverlappedResult(True)[0]
            except OSError as error:
                return 0, _with_status(error)
            if take is not None:
                take(started, size)
            return size, None

        def ended(completion: Completion) -> None:
            if self._pending.pop(started, None) is None:
                return  # closed since: nobody asks any more
            if completion.status:
                _call_off(started)
                told(0, completion.exception())
            else:
                told(*outcome())

        try:
            started, code = call(self._own, what, overlapped=True)
        except OSError as error:
            self._loop.call_soon(told, 0, _with_status(error))
            return
        if code != self._api.ERROR_IO_PENDING:
            self._loop.call_soon(told, *outcome())
            return
        try:
            wait = self._loop.port.wait(_Event(started.event), overlapped=Operation(ended))
        except OSError as error:  # no descriptors for it
            _call_off(started)
            self._loop.call_soon(told, 0, error)
            return
        self._pending[started] = wait


def _call_off(started: Any) -> None:
    """End an operation of the system: nothing is written to its memory any more."""
    started.cancel()
    with contextlib.suppress(OSError):  # how it has ended interests nobody
        started.GetOverlappedResult(True)


def _with_status(error: OSError) -> OSError:
    """The same with what errors of the port have."""
    failed: Any = error  # `winerror` is declared on Windows only
    return nt.make_exception(nt.from_win32(failed.winerror))


class ByThread(Handle):
    """Calls that block, in threads of the loop's executor."""

    is_overlapped = False

    def read(self, buffer: memoryview, told: Told) -> None:
        self._in_thread(lambda: self._read_now(buffer), told)

    def write(self, data: bytes, told: Told) -> None:
        self._in_thread(lambda: self._write_now(data), told)

    def _in_thread(self, call: Callable[[], int], told: Told) -> None:
        def run() -> None:
            error: OSError | None = None
            size = 0
            try:
                size = call()
            except OSError as caught:
                error = caught
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(told, size, error)

        self._loop.run_in_executor(None, run)

    def _read_now(self, buffer: memoryview) -> int:
        data = os.read(self._pipe.fileno(), len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _write_now(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._pipe.fileno(), view) :]
        return len(data)
