"""Scripts that a port is driven by, step by step: one world is one port with its sockets, pipes,
files and timers, and it knows how many completions are due after each step.

Everything that is due is taken between two steps, no less and no more. Handles are made when a
script first names them; what they do is in `script_handles.py` and the files named there, and what
is not compared in `script_freedoms.py`.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from backends.script_freedoms import CLOSING, TOLD_OF_TRUNCATED, freed

import netpoll
from netpoll import CompletionPort, Overlapped
from netpoll.backends.software import FAILURES
from netpoll.messages import descriptors
from netpoll.testing.drain import nothing_more
from netpoll.testing.pairs import Loopback
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Operation = Overlapped[Any]

READING = frozenset(("recv_into", "recvfrom_into", "recvmsg_into", "read_into"))
POSTED = "posted"


class Flag:
    """An event that only remembers."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    def clear(self) -> None:
        self.is_set = False


class World:
    """One port, and everything that a script has made on it."""

    def __init__(self, port: CompletionPort, folder: Path, patience: float = DEADLINE) -> None:
        self.port = port
        self.folder = folder
        self.patience = patience
        """Seconds that a completion which is due may take; only a failure ever waits so long."""
        self.net = Loopback()
        self.ends = contextlib.ExitStack()
        self.ends.callback(self.net.close)
        self.handles: dict[Any, Any] = {}
        self.names: dict[Any, str] = {}
        """What addresses are called: their numbers differ between two runs."""
        self.starts: list[Operation | None] = []
        """`None` where it failed at once, which is as good as a completion that says so."""
        self.closing: set[Operation] = set()
        """Those that were pending when their handle was closed."""
        self.skipping: dict[Any, str] = {}
        """Handles on which a success within its start queues no packet, and their keys."""
        self.alone: set[Any] = set()
        """Handles without a port."""
        self.due = 0
        """Packets."""
        self.silent: list[Operation] = []
        """Due too, but without a packet: they end by their event, or by `wait()`."""
        self.routines = 0
        """Due as calls of `routine`."""
        self.outcomes: list[tuple[Any, ...]] = []
        self.is_open = True
        self._early: set[Operation] = set()
        """Those that were seen to end within their start, which spared the packet."""
        self._fresh: list[tuple[Any, ...]] = []
        """Outcomes of this step, to be sorted."""

    # -- starting ----------------------------------------------------------------------------------

    def start(self, begin: Callable[[], Operation]) -> Operation | None:
        """Start an operation; `None` if it failed at once."""
        operation = None
        try:
            operation = begin()
        except OSError as error:
            self._failed(len(self.starts), vars(error)["status"])
        else:
            if operation.done and operation.handle in self.skipping:
                self._early.add(operation)
        self.starts.append(operation)
        return operation

    def at_once(self, begin: Callable[[], Operation]) -> Operation | None:
        """Start an operation that has all it needs: its completion is due."""
        operation = self.start(begin)
        if operation is not None:
            self.is_due(operation)
        return operation

    def take(self, operation: Operation) -> None:
        """Take the completion of an operation that was started by other means; nothing is told."""
        if not (operation.done and operation.handle in self.skipping):
            completion = self.port.get(timeout=self.patience)
            assert completion is not None
            assert completion.overlapped is operation

    def again(self, operations: Iterable[Operation]) -> list[Operation]:
        """Resubmit many; those that have not failed at once."""
        several = list(operations)
        failed = {each: vars(error)["status"] for each, error in self.port.resubmit_many(several)}
        for each in several:
            if each in failed:
                self._failed(len(self.starts), failed[each])
            elif each.done and each.handle in self.skipping:
                self._early.add(each)
            self.starts.append(None if each in failed else each)
        return [each for each in several if each not in failed]

    def is_due(self, operation: Operation) -> None:
        """It has what it waited for, and ends the way it was started for."""
        if operation in self._early:
            self._early.remove(operation)
            told = self._outcome(operation, operation.status, operation.transferred)
            # as if it had had a packet, which another backend may queue
            self._fresh.append((*told, self.skipping[operation.handle]))
        elif operation.routine is not None:
            self.routines += 1
        elif not operation.packet or operation.handle in self.alone:
            self.silent.append(operation)
        else:
            self.due += 1

    def routine(self, error: int, transferred: int, operation: Operation, flags: int) -> None:
        """The completion routine of everything that has one."""
        self.routines -= 1
        told = self._outcome(operation, operation.status, transferred)
        number = None if told[0] == "closed" else error
        self._fresh.append((*told[:2], "routine", number, *told[2:]))

    # -- what is told --------------------------------------------------------------------------

    def tell(self, *outcome: Any) -> None:
        self.outcomes.append(outcome)

    def call(self, name: str, call: Callable[[], object]) -> None:
        """Call what is no operation; its error is an outcome too."""
        try:
            call()
        except OSError as error:
            self.tell(name, vars(error)["status"])

    def settle(self) -> None:
        """Take what is due, and prove that nothing else is there."""
        for handle in list(self.handles.values()):
            handle.count_due()
        deadline = time.monotonic() + self.patience
        while self.due:
            batch = self.port.get_many(timeout=max(0.0, deadline - time.monotonic()))
            assert batch, f"{self.due} completions more; pending: {self.port.inflight()}"
            self.due -= len(batch)
            for completion in batch:
                operation: Any = completion.overlapped
                if operation is None or type(operation) is int:
                    assert not completion.status
                    self._fresh.append((POSTED, operation, completion.key, completion.transferred))
                    continue
                told = self._outcome(operation, completion.status, completion.transferred)
                # one that failed may have done so within its start, where no key is told
                self._fresh.append((*told, completion.key) if told[0] == "ended" else told)
        for operation in self.silent:
            assert operation.wait(self.patience), f"{operation!r} should have ended"
            self._fresh.append(self._outcome(operation, operation.status, operation.transferred))
        self.silent.clear()
        while self.routines > 0:
            ran = netpoll.sleep(max(0.0, deadline - time.monotonic()))
            assert ran, f"{self.routines} calls of routines more"
        assert not self.routines, "a routine that nobody expects"
        nothing_more(self.port)
        assert not self._early, f"ended within their start: {self._early}"
        self._still_pending()
        # in which order completions of different operations are seen is not promised (RECV-13)
        self.outcomes += sorted(self._fresh, key=_by_operation)
        self._fresh.clear()

    def pending(self) -> list[Operation]:
        return [
            operation
            for handle in self.handles.values()
            for line in handle.lines
            for operation in line.operations
        ]

    def _still_pending(self) -> None:
        for operation in self.pending():
            assert not operation.done, f"{operation!r} has ended"
            event: Any = operation.event
            assert event is None or not event.is_set, f"the event of {operation!r} is set"

    def _failed(self, number: int, status: int) -> None:
        self._fresh.append(("failed", number, freed(status)))

    def _outcome(self, operation: Operation, status: int, transferred: int) -> tuple[Any, ...]:
        number = len(self.starts) - 1 - self.starts[::-1].index(operation)
        event: Any = operation.event
        assert event is None or event.is_set, f"the event of {operation!r} is not set"
        if operation in self.closing and status in CLOSING:
            return ("closed", number)
        if status >= FAILURES:
            return ("failed", number, freed(status))
        return ("ended", number, status, transferred, self._value(operation))

    def _value(self, operation: Operation) -> Any:
        """The result in a form that is the same in every run."""
        value: Any = operation.value  # which a truncated datagram has too
        data = b"".join(operation.buffers) if operation.opcode in READING else None
        match operation.opcode:
            case "recv_pooled":
                return operation.context.took(value)
            case "recvfrom_into":
                told = TOLD_OF_TRUNCATED or not operation.status
                return value[0], told and self._name(value[1]), data
            case "recvmsg_into":
                beside = [(level, kind) for level, kind, _ in value.ancillary]
                files = [self.names.get(_file(each)) for each in descriptors(value.ancillary)]
                return value.size, beside, files, value.flags, self._name(value.address), data
            case "accept":
                value[0].close()
                return self._name(value[1]), operation.context and bytes(operation.context)
            case "accept_many":
                for sock, _ in value:
                    sock.close()
                return [self._name(address) for _, address in value]
            case _:
                return value if data is None else data

    def _name(self, address: Any) -> str | None:
        return self.names.get(address)

    # -- ending ------------------------------------------------------------------------------------

    def cancel(self, number: int) -> None:
        """Cancel the start of that number, whatever has become of it."""
        if not self.starts:
            return
        operation = self.starts[number % len(self.starts)]
        asked = operation is not None and operation.cancel()
        self.tell("cancel", asked)
        if operation is not None and asked:
            self.forget(operation)

    def forget(self, operation: Operation) -> None:
        """It has been cancelled, and its completion is due."""
        assert any(handle.forget(operation) for handle in self.handles.values()), operation
        self.is_due(operation)

    def close_port(self) -> None:
        """Close the port with whatever is pending: that is the end of the script."""
        pending = self.pending()
        self.port.close()
        self.is_open = False
        for operation in pending:
            assert operation.wait(self.patience), f"{operation!r} goes on without its port"
            self._fresh.append(self._outcome(operation, operation.status, operation.transferred))
        self.outcomes += sorted(self._fresh, key=_by_operation)
        self.call("after the end", lambda: self.port.post())
        for handle in self.handles.values():
            handle.goes_on()

    def close(self) -> None:
        """Close what is still open, and take what that ends."""
        if self.is_open:
            for handle in self.handles.values():
                handle.close()
            self.settle()


def _by_operation(outcome: tuple[Any, ...]) -> int:
    """What outcomes of one step are sorted by; posted packets stay as they came (PORT-08)."""
    number: int = -1 if outcome[0] == POSTED else outcome[1]
    return number


def _file(number: int) -> tuple[int, int]:
    """Which file a descriptor that has come is of; it is closed."""
    about = os.fstat(number)
    os.close(number)
    return about.st_dev, about.st_ino
