"""The rings by themselves, without an engine: what goes in comes out, once, whatever the kernel
says meanwhile."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from backends.uring import needs_io_uring

from netpoll.backends.io_uring import constants as uring
from netpoll.backends.io_uring import ring as ring_module
from netpoll.backends.io_uring.entries import SQE
from netpoll.backends.io_uring.library import (
    SHARED,
    SINGLE,
    Syscalls,
    address_of,
    open_ring,
    syscalls,
)
from netpoll.backends.io_uring.ring import Ring
from netpoll.testing.fixtures import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [needs_io_uring, pytest.mark.usefixtures("no_leak")]

MODES = pytest.mark.parametrize("single_issuer", [False, True], ids=["shared", "single-issuer"])
Batch = list[tuple[int, int, int]]
_os: Any = os
_signal: Any = signal
"""For names that are declared on Linux only."""


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    yield ring
    ring.close()


def nops(count: int, first: int = 0) -> list[bytearray]:
    """Entries that complete at once, numbered."""
    return [entry(uring.IORING_OP_NOP, number) for number in range(first, first + count)]


def entry(
    opcode: int, token: int, *, fd: int = -1, buffer: bytearray | None = None, flags: int = 0
) -> bytearray:
    made = bytearray(uring.SQE_SIZE)
    address, length = (address_of(buffer), len(buffer)) if buffer is not None else (0, 0)
    SQE.pack_into(made, 0, opcode, 0, 0, fd, 0, address, length, flags, token)
    return made


def submit_all(ring: Ring, entries: list[bytearray]) -> None:
    while entries or ring.unsubmitted():
        ring.push(entries)
        before = ring.unsubmitted()
        ring.submit()
        assert ring.unsubmitted() < before, "the kernel takes none"


def turn(
    ring: Ring, batch: Batch, timeout: float | None, entries: list[bytearray] | None = None
) -> None:
    """What an engine does, of which the ring then is the only user."""
    ring.make_turn(nothing, nothing)([] if entries is None else entries, batch, timeout)


def nothing() -> None:
    """Instead of a port's lock."""


def take(ring: Ring, count: int) -> list[tuple[int, int]]:
    """Exactly `count` completions: user_data and result."""
    batch: Batch = []
    while len(batch) < count:
        before = len(batch)
        turn(ring, batch, 30)
        assert len(batch) > before, f"{count - before} completions do not come"
    turn(ring, batch, 0)
    assert len(batch) == count
    return [(token, result) for token, result, _ in batch]


def numbers(count: int) -> list[tuple[int, int]]:
    return [(number, 0) for number in range(count)]


# -- going round -----------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("barrier", [False, True], ids=["x86-64", "arm64"])
def test_both_rings_wrap_around(
    single_issuer: bool, barrier: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "BARRIER", barrier)
    ring = Ring(single_issuer=single_issuer)
    size, rounds = 700, 30  # 700 divides neither ring
    assert size * rounds > 4 * ring._cq_size
    taken: list[tuple[int, int]] = []
    for number in range(rounds):
        submit_all(ring, nops(size, number * size))
        taken += take(ring, size)
    assert taken == numbers(size * rounds)
    ring.close()


def test_the_tails_wrap_around_at_32_bits(ring: Ring) -> None:
    """Four thousand million operations later: no test can wait for that, so pretend."""
    start = 0x1_0000_0000 - 100
    memory = bytearray(4 * 64)
    words = ring._words
    ring._words = memoryview(memory).cast("I")
    ring._sq_head_word, ring._sq_tail_word, ring._cq_head_word, ring._cq_tail_word = range(4)
    ring._words[0] = ring._words[1] = ring._words[2] = ring._words[3] = start
    ring._sq_tail = ring._cq_head = start
    entries = nops(200)
    ring.push(entries)
    assert (ring.unsubmitted(), ring._words[1], entries) == (200, 100, [])
    ring._words[3] = 100
    batch: Batch = []
    ring.take(batch)
    ring.take(batch)  # what lay behind the end of the array
    assert len(batch) == 200
    assert ring._words[2] == 100
    ring._words.release()
    ring._words = words


def test_a_full_submission_ring_takes_no_more_and_loses_nothing(ring: Ring) -> None:
    entries = nops(ring._sq_size + 5)
    ring.push(entries)
    assert (ring.unsubmitted(), len(entries)) == (ring._sq_size, 5)
    ring.push(entries)
    assert (ring.unsubmitted(), len(entries)) == (ring._sq_size, 5)
    total = ring._sq_size + 5
    submit_all(ring, entries)
    assert take(ring, total) == numbers(total)


@MODES
def test_completions_that_do_not_fit_are_kept_by_the_kernel(single_issuer: bool) -> None:
    ring = Ring(single_issuer=single_issuer)
    many = 3 * ring._cq_size + 7
    submit_all(ring, nops(many))
    assert take(ring, many) == numbers(many)
    ring.close()


@pytest.mark.parametrize("timeout", [0, 30, None])
def test_a_turn_hands_over_waits_and_takes(ring: Ring, timeout: float | None) -> None:
    """Also across the end of the ring, and as much of a batch as there is room for."""
    submit_all(ring, nops(ring._sq_size - 5))
    take(ring, ring._sq_size - 5)
    for count in (1, 20, ring._sq_size + 50):
        entries = nops(count)
        batch: Batch = []
        before = ring.enters
        turn(ring, batch, timeout, entries)
        assert (ring.enters - before, len(entries)) == (1, max(0, count - ring._sq_size))
        submit_all(ring, entries)
        left = take(ring, count - len(batch))
        assert [(token, result) for token, result, _ in batch] + left == numbers(count)


def test_what_another_thread_took_meanwhile_is_not_taken_again(ring: Ring) -> None:
    """A thread that starts something takes completions in while another waits."""
    elsewhere: Batch = []
    batch: Batch = []
    entries = nops(3)
    ring.make_turn(nothing, lambda: ring.take(elsewhere))(entries, batch, None)
    assert [len(elsewhere), len(batch)] == [3, 0]
    assert take(ring, 0) == []


# -- what io_uring_enter says ----------------------------------------------------------------------


def refuse(ring: Ring, number: int) -> None:
    """Let the kernel say `number` from now on."""
    ring._enter = lambda *_: -1
    ring._last_error = lambda: number


def allow(ring: Ring) -> None:
    ring._enter, ring._last_error = syscalls().syscall, syscalls().last_error


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETIME])
def test_what_passes_is_no_error_and_loses_nothing(ring: Ring, number: int) -> None:
    ring.push(nops(10))
    refuse(ring, number)
    ring.submit()
    ring.wait(0.5)
    for timeout in (0, 0.5, 5, None):
        turn(ring, [], timeout)
    assert ring.unsubmitted() == 10
    assert ring.enters == 6
    allow(ring)
    assert take(ring, 10) == numbers(10)


def test_without_memory_a_start_waits_and_a_wait_says_so(ring: Ring) -> None:
    """The start has happened, as far as the program knows; whoever waits can do something."""
    ring.push(nops(10))
    refuse(ring, errno.ENOMEM)
    ring.submit()
    with pytest.raises(OSError, match=r"io_uring_enter: .*memory") as caught:
        turn(ring, [], None)
    assert caught.value.errno == errno.ENOMEM
    allow(ring)
    assert take(ring, 10) == numbers(10)


def test_what_does_not_pass_is_an_error(ring: Ring) -> None:
    refuse(ring, errno.EBADF)
    for call in (ring.submit, lambda: ring.wait(1), lambda: turn(ring, [], None)):
        with pytest.raises(OSError, match="io_uring_enter") as caught:
            call()
        assert caught.value.errno == errno.EBADF
    allow(ring)


def test_a_signal_ends_a_wait(ring: Ring) -> None:
    """That is how Ctrl-C gets through: Python's handler runs between two calls."""
    seen: list[int] = []

    def handle(number: int, _: object) -> None:
        seen.append(number)

    before = _signal.signal(_signal.SIGALRM, handle)
    # again and again: the first may come before the wait has begun
    _signal.setitimer(_signal.ITIMER_REAL, 0.05, 0.05)
    try:
        turn(ring, [], None)
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, before)
    assert seen
    assert take(ring, 0) == []


def test_a_wait_ends_when_its_time_is_over(ring: Ring) -> None:
    for timeout in (1e-9, 0.01, 0.01, 1.01):
        turn(ring, [], timeout)
    ring.wait(0.01)
    assert ring.enters == 5
    assert take(ring, 0) == []


def test_a_wait_from_another_thread_ends_with_a_completion(ring: Ring) -> None:
    number = _os.eventfd(0)
    buffer = bytearray(8)
    submit_all(ring, [entry(uring.IORING_OP_READ, 5, fd=number, buffer=buffer)])
    batch: Batch = []
    waiting = threading.Thread(target=turn, args=(ring, batch, None))
    waiting.start()
    _os.eventfd_write(number, 3)
    ring.submit()  # the thread that has handed the read over does its work
    waiting.join(30)
    assert not waiting.is_alive()
    assert [(token, result) for token, result, _ in batch] == [(5, 8)]
    assert int.from_bytes(buffer, "little") == 3
    os.close(number)


# -- cancelling and closing ------------------------------------------------------------------------


@MODES
def test_a_cancel_has_an_answer_and_its_operation_a_completion(single_issuer: bool) -> None:
    ring = Ring(single_issuer=single_issuer)
    number = _os.eventfd(0)
    buffer = bytearray(8)
    assert ring.cancel(5) == -errno.ENOENT
    submit_all(ring, [entry(uring.IORING_OP_READ, 5, fd=number, buffer=buffer)])
    assert ring.cancel(5) == 0
    assert take(ring, 1) == [(5, -errno.ECANCELED)]
    assert ring.cancel(5) == -errno.ENOENT
    ring.close()
    os.close(number)


def test_closing_gives_the_descriptor_and_the_memory_back() -> None:
    before = open_descriptors()
    ring = Ring()
    assert open_descriptors() > before
    maps = ring._maps
    ring.close()
    assert open_descriptors() == before
    assert all(each.closed for each in maps)


def test_a_ring_that_cannot_be_mapped_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    real = ring_module._shared

    def fail(fd: int, size: int, offset: int) -> Any:
        if offset == uring.IORING_OFF_SQES:
            raise OSError(errno.ENOMEM, "no memory")
        return real(fd, size, offset)

    monkeypatch.setattr(ring_module, "_shared", fail)
    with pytest.raises(OSError, match="no memory"):
        Ring()
    assert open_descriptors() == before


# -- setting up ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [SHARED, SINGLE], ids=["shared", "single-issuer"])
def test_flags_that_the_kernel_does_not_know_are_left_out_the_newest_first(
    wanted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(wanted)
    tried: list[int] = []
    real = Syscalls.setup

    def setup(self: Syscalls, entries: int, params: bytearray) -> int:
        flags = int.from_bytes(params[8:12], "little")
        tried.append(flags)
        too_new = any(flags & wanted[name] for name in names[:known_from])
        return -errno.EINVAL if too_new else real(self, entries, params)

    monkeypatch.setattr(Syscalls, "setup", setup)
    for known_from in range(len(names) + 1):
        tried.clear()
        fd, _, flags = open_ring(8, 16, wanted)
        os.close(fd)
        assert flags == tuple(names[known_from:])
        assert len(tried) == known_from + 1
        assert tried == sorted(tried, reverse=True), "the newest have the highest numbers"


def test_an_error_that_no_flag_is_to_blame_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [errno.EINVAL] * (len(SHARED) + 1)

    def setup(*_: object) -> int:
        return -answers.pop(0)

    monkeypatch.setattr(Syscalls, "setup", setup)
    with pytest.raises(OSError, match="io_uring_setup") as caught:
        open_ring(8, 16, SHARED)
    assert (caught.value.errno, answers) == (errno.EINVAL, [])
    answers[:] = [errno.ENOMEM]
    with pytest.raises(OSError, match="io_uring_setup") as caught:
        open_ring(8, 16, SHARED)
    assert caught.value.errno == errno.ENOMEM
