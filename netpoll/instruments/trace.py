"""A trace that Perfetto (ui.perfetto.dev) and chrome://tracing open."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.instruments.base import Instrument, operation_of
from netpoll.overlapped import Completion, Overlapped, describe

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    Operation = Overlapped[Any]


class _Wait(threading.local):
    began: float = 0.0
    named: bool = False


class Trace(Instrument):
    """Writes each operation from its start to its end, each wait and each posted packet, in the
    JSON array form of the Trace Event Format. An event is in the file when the thing has happened,
    and the format takes a file without its last bracket: it can be opened while it grows, and
    when the program has died.

    :param path: the file, which is overwritten
    """

    def __init__(self, path: str | Path) -> None:
        # without a buffer: whole events, however the program ends
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115, open until close()
        # reentrant: the collector may finalize a port with the same instrument anywhere
        self._lock = threading.RLock()
        self._wait = _Wait()
        self._pid = os.getpid()
        process = {"ph": "M", "name": "process_name", "pid": self._pid, "args": {"name": "netpoll"}}
        self._file.write(b"[\n" + json.dumps(process).encode())

    def close(self) -> None:
        """Complete the file. Closing the port does so too."""
        with self._lock:
            if not self._file.closed:
                self._file.write(b"\n]\n")
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, phase: str, name: str, *, when: float | None = None, **fields: Any) -> None:
        thread = threading.get_ident()
        moment = time.perf_counter() if when is None else when
        event = {"ph": phase, "name": name, "cat": "netpoll", "pid": self._pid, "tid": thread}
        event |= {"ts": round(moment * 1e6, 1), **fields}
        events = [event]
        if not self._wait.named:
            self._wait.named = True
            known = {"name": threading.current_thread().name}
            events.insert(0, {**event, "ph": "M", "name": "thread_name", "args": known})
        written = "".join(",\n" + json.dumps(each) for each in events).encode()
        with self._lock:
            if not self._file.closed:
                self._file.write(written)

    def starting(self, operation: Operation) -> None:
        known = {"handle": describe(operation.handle), "bytes": operation._size}
        self._write("b", str(operation.opcode), id=hex(id(operation)), args=known)

    def not_started(self, operation: Operation, error: BaseException) -> None:
        known = {"raised": str(error)}
        self._write("e", str(operation.opcode), id=hex(id(operation)), args=known)

    def ended_inline(self, operation: Operation) -> None:
        known = {"bytes": operation.transferred, "inline": True}
        self._write("e", str(operation.opcode), id=hex(id(operation)), args=known)

    def completed(self, completion: Completion) -> None:
        operation = operation_of(completion)
        if operation is None:
            known = {"status": nt.name_of(completion.status), "bytes": completion.transferred}
            self._write("i", "packet taken", s="t", args=known)
        else:
            self._end(operation, completion, packet=True)

    def ended(self, completion: Completion) -> None:
        self._end(completion.overlapped, completion, packet=False)

    def _end(self, operation: Operation, completion: Completion, *, packet: bool) -> None:
        known = {"status": nt.name_of(completion.status), "bytes": completion.transferred}
        known["packet"] = packet
        self._write("e", str(operation.opcode), id=hex(id(operation)), args=known)

    def cancel_asked(self, target: Any, found: bool) -> None:
        self._write("i", "cancel", s="t", args={"target": repr(target), "found": found})

    def posted(self, completion: Completion) -> None:
        known = {"transferred": completion.transferred, "key": repr(completion.key)}
        self._write("i", "post", s="t", args=known)

    def waiting(self, timeout: float | None) -> None:
        self._wait.began = time.perf_counter()

    def woken(self, number: int) -> None:
        began = self._wait.began
        length = round((time.perf_counter() - began) * 1e6, 1)
        self._write("X", "wait", when=began, dur=length, args={"packets": number})

    def closed(self) -> None:
        self.close()
