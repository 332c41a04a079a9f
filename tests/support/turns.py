"""Threads that take turns in Numba's simulator: one runs until it meets the others, then the next does.

The simulator starts a Python thread for each CUDA thread, lets all run at once and polls them at their
barriers: most of the time goes into their fight for the interpreter. In turns a kernel takes a fraction
of that time, and what it does is the same every time. Those that have met go on at once, the last one
first: one warp runs as far ahead of the others as it can, and at each barrier of the block the order is
reversed. So a kernel that lacks a barrier reads what is not written yet or is written already for later.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar


class Thread(threading.Thread):
    """A thread that runs CUDA threads, one after the other, when it is its turn."""

    idle: ClassVar[list["Thread"]] = []

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Lock()
        self.turn.acquire()
        self.block: Block
        self.blockIdx: Any  # a `Dim3` of the simulator, which looks for both
        self.threadIdx: Any

    def run(self) -> None:
        """Run what `block`, `blockIdx` and `threadIdx` name, whenever the turn comes."""
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
    """The barrier of `threading`, for threads that take turns."""

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self._waiting: list[Thread] = []

    def wait(self, timeout: float | None = None) -> int:
        """Return how many were still to come; without `timeout`: a block ends where no thread can run."""
        thread = threading.current_thread()
        assert isinstance(thread, Thread)
        self._waiting.append(thread)
        missing = self.parties - len(self._waiting)
        self.open_when_complete(thread.block)
        thread.block.next()
        thread.turn.acquire()
        return missing

    def open_when_complete(self, block: "Block") -> None:
        """Let all go on before any other, the last one first."""
        if len(self._waiting) == self.parties:
            block.ready.extendleft(self._waiting)
            self._waiting.clear()


class Block:
    """A block of threads, of one dimension; stands for the simulator's `BlockManager`."""

    def __init__(self, function: Callable[..., None], grid: Any, size: tuple[int, ...], debug: bool) -> None:
        self._function, self._size = function, size[0]

    def run(self, place: tuple[int, ...], *arguments: object) -> None:
        """Run all threads of the block at `place` of the grid; raise what one of them raises."""
        self.kernel: Callable[[], None] = lambda: self._function(*arguments)
        self.ready: deque[int | Thread] = deque(range(self._size))  # not begun yet, or at an open barrier
        self.barrier, self._running = Barrier(self._size), self._size
        self._place = place[0]
        self._error: Exception | None = None
        self._over = threading.Lock()
        self._over.acquire()
        self.next()
        self._over.acquire()
        if self._error:
            raise self._error
        assert not self._running, f"{self._running} of {self._size} threads wait for others that do not come"

    def next(self) -> None:
        """Give the turn to the first that can run; where none can, the block is over."""
        if not self.ready:
            self.end()
            return
        first = self.ready.popleft()
        thread = self._begin(first) if isinstance(first, int) else first
        thread.turn.release()

    def leave(self) -> None:
        """Take a thread that has run out of the block."""
        self._running -= 1
        self.barrier.parties -= 1
        self.barrier.open_when_complete(self)
        self.next()

    def end(self, error: Exception | None = None) -> None:
        """Return to the caller of `run`; after an error the others wait for ever."""
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
    """Let every kernel of this process, which has the simulator, run in turns from now on."""
    from numba.cuda.simulator import kernel

    kernel.BlockManager = Block
    threading.Barrier = Barrier  # type: ignore[assignment,misc]  # the lanes of a warp meet at one
