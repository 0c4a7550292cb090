"""An engine whose operations end when the test says so, and a software port over it."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.backends import packets, software, timers, waiting
from netpoll.backends.base import Association, Capability, Engine
from netpoll.backends.software import SoftwarePort, reacquire
from netpoll.overlapped import Completion, Opcode, Overlapped
from netpoll.testing.waiting import DEADLINE, Running, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from netpoll.overlapped import Event

    Operation = Overlapped[Any]

PENDING = nt.STATUS_PENDING


class Handle:
    """Anything with a descriptor's number, as far as the software port knows."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


class ScriptedEngine(Engine):
    """Performs nothing. Its `poll` blocks until the test ends an operation or somebody wakes it."""

    name = "scripted"

    def __init__(self, lock: threading.RLock) -> None:
        self.lock = lock
        self.at_once: deque[int] = deque()
        """How the next starts end within themselves; those without an entry pend."""
        self.waiting: list[Operation] = []
        self.ended: list[Operation] = []
        self.refused: dict[int, int] = {}
        self.pollers: list[threading.Thread] = []
        """Who polled, each time."""
        self.timeouts: list[float | None] = []
        self.wakes = 0
        self.closed = 0
        self.blocked: threading.Thread | None = None
        self.error: BaseException | None = None
        """What the poll under way, or the next one, raises."""
        self.pass_time: Callable[[float | None], object] | None = None
        """Called instead of blocking, without the lock."""
        self._signal = threading.Event()

    # what a test does

    def end(self, operation: Operation, status: int = 0, transferred: int = 1) -> None:
        """Let `operation` end, as readiness or the kernel would."""
        with self.lock:
            self.waiting.remove(operation)
            operation._final = status
            operation.transferred = transferred
            self.ended.append(operation)
        self._signal.set()

    def fail(self, error: BaseException) -> None:
        """Let the poll that blocks raise `error`, as Ctrl-C does in the main thread."""
        self.error = error
        self._signal.set()

    # what the port does

    def attach(self, handle: Any, fd: int) -> Association:
        return Association(handle, fd)

    def detach(self, association: Association) -> list[Operation]:
        ended = self.pending(association)
        for operation in ended:
            self.cancel(operation, nt.STATUS_CONNECTION_ABORTED)
        return ended

    def shutdown(self, association: Association, how: int) -> None:
        raise NotImplementedError

    def prepare(self, operation: Operation) -> None:
        operation._begin = self._begin

    def _begin(self, operation: Operation) -> bool:
        assert operation not in self.waiting, "started twice"
        status = self.refused.get(operation._association.fd)
        if status is None and self.at_once:
            status = self.at_once.popleft()
        if status is None:
            self.waiting.append(operation)
            return False
        operation._final = status
        operation.transferred = 1
        return True

    def refuse(self, association: Association, status: int) -> None:
        self.refused[association.fd] = status

    def cancel(self, operation: Operation, status: int) -> bool:
        if operation not in self.waiting:
            return False
        self.waiting.remove(operation)
        operation._final = status
        operation.transferred = 0
        return True

    def pending(self, association: Association) -> list[Operation]:
        started = (*self.waiting, *self.ended)
        return [operation for operation in started if operation._association is association]

    def poll(self, timeout: float | None) -> list[Operation]:
        assert not self.closed
        assert self.blocked is None, "two threads poll"
        self.pollers.append(threading.current_thread())
        self.timeouts.append(timeout)
        if not self.ended and timeout != 0:
            self.blocked = threading.current_thread()
            self.lock.release()
            try:
                if self.pass_time is not None:
                    self.pass_time(timeout)
                else:
                    self._signal.wait(DEADLINE if timeout is None else min(timeout, DEADLINE))
            finally:
                reacquire(self.lock)
                self.blocked = None
                self._signal.clear()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.ended  # which the port empties

    def wake(self) -> None:
        if self.blocked is not None:
            self.wakes += 1
            self._signal.set()

    def interrupt(self) -> None:
        self._signal.set()

    def close(self) -> None:
        assert self.blocked is None, "closed under a poll"
        self.closed += 1

    def stats(self) -> dict[str, int]:
        return {"polls": len(self.timeouts)}

    @staticmethod
    def capability(opcode: str) -> Capability:
        return Capability("emulated", "scripted")


class Rig:
    """A software port, its engine, and a handle to start operations on."""

    def __init__(
        self, *, concurrency: int = 0, max_inflight: int | None = None, key: Any = "key"
    ) -> None:
        engines: list[ScriptedEngine] = []

        def make(lock: threading.RLock) -> Engine:
            engines.append(ScriptedEngine(lock))
            return engines[0]

        self.port = SoftwarePort(make, concurrency, max_inflight)
        self.engine = engines[0]
        # no look for closed handles every now and then: it would hide a lost wake-up
        self.port._next_sweep = 1e12
        self.handle = Handle(3)
        self.port.associate(self.handle, key, False)

    def operation(
        self,
        *,
        handle: Handle | None = None,
        timeout: float | None = None,
        event: Event | None = None,
        packet: bool = True,
        opcode: Opcode = Opcode.RECV_INTO,
    ) -> Operation:
        """A prepared operation."""
        operation: Operation = Overlapped(event=event, packet=packet)
        operation.opcode = opcode
        operation.handle = handle or self.handle
        operation._timeout = timeout
        self.port.prepare(operation)
        return operation

    def start(self, **options: Any) -> Operation:
        """A started operation."""
        operation = self.operation(**options)
        self.port.start(operation)
        return operation

    def post(self, *keys: Any) -> None:
        """Packets, queued without anybody taking one in between."""
        with self.port._lock:
            for key in keys:
                completion = Completion()
                completion.key = key
                completion.overlapped = None
                completion.transferred = 0
                self.port.post(completion)

    def take(self, limit: int = 64, timeout: float | None = 0) -> list[Any]:
        """Take what is there: the keys of posted packets, operations themselves."""
        taken = self.port.dequeue(limit, timeout, False)
        return [completion.overlapped or completion.key for completion in taken]

    def wait(self, limit: int = 1, timeout: float | None = None) -> Running[list[Any]]:
        """A thread that waits for packets, once it does so."""
        before = self.port.stats()["waiting"]
        running = run(self.take, limit, timeout)
        wait_until(lambda: self.port.stats()["waiting"] > before, "the thread waiting")
        return running

    def has_polled(self, times: int) -> bool:
        """Whether the engine was polled exactly so often."""
        return len(self.engine.timeouts) == times

    def wait_until_polled_by(self, running: Running[Any]) -> None:
        """Return once the thread blocks in the engine."""
        wait_until(lambda: self.engine.blocked is running.thread, "the thread polling")

    def check_at_rest(self) -> None:
        """Prove that nobody waits, nobody polls, and nobody holds the lock."""
        port = self.port
        assert port._waiters == []
        assert port._bystanders == []
        assert port._poller is None
        assert port._waiting == 0
        assert not port._lock._is_owned()  # type: ignore[attr-defined]
        assert run(port.stats).result()["waiting"] == 0


class Clock:
    """Time that stands still until told otherwise, in place of the software port's."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def install(self, patch: Callable[[object, str, object], object]) -> None:
        """Let software ports see this time.

        :param patch: `setattr` that somebody undoes
        """
        for module in (packets, waiting, timers, software):
            patch(module, "time", self)

    def pass_time(self, timeout: float | None) -> None:
        """Sleep, for an engine: exactly as long as asked."""
        assert timeout is not None, "would sleep for ever"
        assert math.isfinite(timeout)
        self.now += timeout
