"""Numba's CUDA simulator with one running thread at a time.

The simulator starts a Python thread for each CUDA thread, runs all of them at once and polls them at
barriers: most of the time goes into switching between them. Here a thread runs until it reaches a
barrier, then the next one runs, in the same order every time. When a barrier opens, its threads run
before all others, the last to arrive first: one warp runs as far ahead of the others as it can, and each
barrier of the block reverses the order. So a kernel that lacks a barrier reads values that are not
written yet, or overwritten already.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar


class Thread(threading.Thread):
    """A Python thread that runs CUDA threads, one after the other; it holds `turn` while it must not run."""

    idle: ClassVar[list["Thread"]] = []

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Lock()
        self.turn.acquire()
        self.block: Block
        self.blockIdx: Any  # a `Dim3` of the simulator, which looks for both
        self.threadIdx: Any

    def run(self) -> None:
        """Run the CUDA thread that `block`, `blockIdx` and `threadIdx` name, whenever `turn` is released."""
        while True:
            self.turn.acquire()
            try:
                self.block.kernel()
            except Exception as error:
                self.block.end(error)
            else:
                self.idle.append(self)
                self.block.leave()

    def syncthreads(self) -> None:
        """Wait for all threads of the block that still run."""
        self.block.barrier.wait()


class Barrier:
    """Like `threading.Barrier`, for threads that run one at a time."""

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self._waiting: list[Thread] = []

    def wait(self, timeout: float | None = None) -> int:
        """Return how many threads had not arrived; `timeout` is ignored: `Block.run` finds deadlocks."""
        thread = threading.current_thread()
        assert isinstance(thread, Thread)
        self._waiting.append(thread)
        missing = self.parties - len(self._waiting)
        self.open_when_complete(thread.block)
        thread.block.next()
        thread.turn.acquire()
        return missing

    def open_when_complete(self, block: "Block") -> None:
        """Make the waiting threads the next to run, the last one first, if none is missing."""
        if len(self._waiting) == self.parties:
            block.ready.extendleft(self._waiting)
            self._waiting.clear()


class Block:
    """A one-dimensional block of CUDA threads; replaces the simulator's `BlockManager`."""

    def __init__(self, function: Callable[..., None], grid: Any, size: tuple[int, ...], debug: bool) -> None:
        self._function, self._size = function, size[0]

    def run(self, place: tuple[int, ...], *arguments: object) -> None:
        """Run all threads of the block at `place` of the grid; raise the first error of a thread."""
        self.kernel: Callable[[], None] = lambda: self._function(*arguments)
        self.ready: deque[int | Thread] = deque(range(self._size))  # to be started, or released by a barrier
        self.barrier, self._running = Barrier(self._size), self._size
        self._place = place[0]
        self._error: Exception | None = None
        self._over = threading.Lock()
        self._over.acquire()
        self.next()
        self._over.acquire()
        if self._error:
            raise self._error
        assert not self._running, f"{self._running} of {self._size} threads wait at a barrier that stays shut"

    def next(self) -> None:
        """Let the first thread run that can; if none can, end the block."""
        if not self.ready:
            self.end()
            return
        first = self.ready.popleft()
        thread = self._begin(first) if isinstance(first, int) else first
        thread.turn.release()

    def leave(self) -> None:
        """Remove a thread that has finished."""
        self._running -= 1
        self.barrier.parties -= 1
        self.barrier.open_when_complete(self)
        self.next()

    def end(self, error: Exception | None = None) -> None:
        """End `run`; after an error the other threads never run again."""
        self._error = error
        self._over.release()

    def _begin(self, index: int) -> Thread:
        from numba.cuda.simulator.kernelapi import Dim3

        if not Thread.idle:
            thread = Thread()
            thread.start()
        else:
            thread = Thread.idle.pop()
        thread.block, thread.blockIdx, thread.threadIdx = self, Dim3(self._place, 0, 0), Dim3(index, 0, 0)
        return thread


def take_turns() -> None:
    """Run the threads of every kernel in this process one at a time; the simulator must be enabled."""
    from numba.cuda.simulator import kernel

    kernel.BlockManager = Block
    threading.Barrier = Barrier  # type: ignore[assignment,misc]  # the lanes of a warp meet at one
