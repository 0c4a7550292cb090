"""A buffer comes back at any moment: in the middle of the pool's own work, or twice at once."""

from __future__ import annotations

import threading

import pytest

from netpoll.pools import BufferPool, PooledBuffer, Starved


class Ring:
    """Where free buffers are kept; giving one back in the middle of that must not begin anew."""

    def __init__(self, pool: BufferPool) -> None:
        self.pool = pool
        self.provided: list[int] = []
        self.comes_back: list[PooledBuffer] = []
        """Dropped in the middle, as the collector or a signal handler may."""
        self.busy = False

    def provide(self, index: int) -> None:
        assert not self.busy
        self.busy = True
        self.comes_back.clear()
        self.provided.append(index)
        self.busy = False


def test_what_is_dropped_in_the_middle_comes_back_behind_it() -> None:
    pool = BufferPool(3, 8)
    first, second, third = (PooledBuffer(pool, pool.take(), 8) for _ in range(3))
    ring = Ring(pool)
    pool.move_to(ring)
    ring.comes_back += [second, third]
    del second, third
    first.release()
    assert sorted(ring.provided) == [0, 1, 2]
    assert pool.free == 3


def test_the_one_that_waits_gets_it_past_the_others() -> None:
    pool = BufferPool(1, 8)
    woken: list[str] = []
    buffer = PooledBuffer(pool, pool.take(), 8)
    one, two = Starved(lambda: woken.append("one")), Starved(lambda: woken.append("two"))
    assert pool.wait(one)
    assert pool.wait(two)
    buffer.release()
    assert (woken, one.index, two.index, pool.free) == (["one"], 0, -1, 0)
    assert pool.take() == -1
    assert not pool.leave(one)  # it had it: the next one's
    assert (woken, two.index) == (["one", "two"], 0)
    pool.give(two.index)
    assert pool.free == 1
    assert not pool.wait(one)  # there is one


def test_two_threads_release_one_buffer_once() -> None:
    pool = BufferPool(1, 8)
    for _ in range(200):
        buffer = PooledBuffer(pool, pool.take(), 8)
        barrier = threading.Barrier(2)

        def release(buffer: PooledBuffer = buffer, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            buffer.release()

        threads = [threading.Thread(target=release) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.free == 1
        assert (pool.take(), pool.take()) == (0, -1)
        pool.give(0)


def test_a_released_buffer_cannot_be_read() -> None:
    pool = BufferPool(2, 8)
    with PooledBuffer(pool, pool.take(), 3) as buffer:
        buffer.data[:] = b"abc"
        assert (len(buffer), bytes(buffer)) == (3, b"abc")
    with pytest.raises(ValueError, match="released"):
        bytes(buffer)
    assert "2 of 2" in repr(pool)
