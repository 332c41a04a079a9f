"""Progress of long work on stderr: bars on a terminal, lines of text elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from blrobust.escaping import escape_lines
from blrobust.terminal import echo

NAME = 20  # columns for a label, so that a line with bar and numbers fits into 60 columns
UNKNOWN = "-:--:--"

_shown: ContextVar[bool] = ContextVar("shown", default=True)


@contextmanager
def shown(is_shown: bool) -> Iterator[None]:
    """Return a context in which meters print nothing unless `is_shown`."""
    token = _shown.set(is_shown)
    try:
        yield
    finally:
        _shown.reset(token)


class Escaped:
    """A renderable of the package rich with escaped text, so that only rich writes control sequences."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._content, options):
            yield segment if segment.control else Segment(escape_lines(segment.text), segment.style)


class _SteadyConsole(Console):
    """A console on stderr that never hides the cursor, so that it is visible however the process ends."""

    def show_cursor(self, show: bool = True) -> bool:
        """Return False without a change: the cursor stays visible."""
        return False


class _Remaining(ProgressColumn):
    """A column with the text `done/total UNIT, h:mm:ss to go`."""

    def __init__(self, unit: str) -> None:
        super().__init__(Column(no_wrap=True, justify="right"))
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:.0f}/{task.total or 0:.0f} {self._unit}, {_to_go(task)} to go")


def _to_go(task: Task) -> str:
    """Return the predicted remaining time of a task as text, counting down between two updates.

    The prediction follows from the mean time per step since the start of this process. The text is `UNKNOWN`
    before the first update, and if the predicted time has passed without an update.
    """
    before, updated = task.fields["before"], task.fields["updated"]
    if task.completed == before or task.start_time is None or task.remaining is None:
        return UNKNOWN
    whole = (updated - task.start_time) / (task.completed - before) * task.remaining
    left = whole - (task.get_time() - updated)
    return _clock(left) if left > 0 or task.remaining == 0 else UNKNOWN


class _Bars(Progress):
    """A progress bar for every visible task; the bars disappear at the end, also after Ctrl-C."""

    def __init__(self, *, unit: str, width: int) -> None:
        console = _SteadyConsole(stderr=True)
        super().__init__(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(max_width=width, no_wrap=True)
            ),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            _Remaining(unit),
            console=console,
            refresh_per_second=4,
            transient=True,
            expand=True,
            disable=not (console.is_terminal and _shown.get()),
            get_time=lambda: time.perf_counter(),
        )

    below: Callable[[], RenderableType] | None = None  # returns the line below the bars

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the table of bars, and the line of text below it."""
        yield from map(Escaped, super().get_renderables())
        if self.below is not None:
            yield Escaped(self.below())


class Meter:
    """Progress over all images of a run: a bar for the run, and one for the part being measured.

    A part is one model at one or several levels. If stderr is not a terminal, a line with the time is printed
    when a model is finished.
    """

    def __init__(
        self,
        *,
        images: int,
        done: int = 0,
        kinds: Sequence[str] = (),
        passes: Callable[[], int] = lambda: 0,
    ) -> None:
        """Start at `done` of the `images` that the whole run classifies.

        `kinds` are all kinds of noise or attack that the run measures, in order. `passes` returns the number
        of images in forward passes so far, which also grows between two calls of `advance`.
        """
        self._bars = _Bars(unit="images", width=NAME)
        self._kinds = list(kinds)
        self._count_passes = passes
        self._passes_before = 0
        self._levels, self._heading = 1, ""
        self._name, self._since = "", time.perf_counter()
        self._run = self._bars.add_task("run", total=images, **_state(done))
        self._cell = self._bars.add_task("", visible=False, total=0, **_state(0))

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bars; off a terminal, print the time of the last model, unless the work failed."""
        if error is None:
            self._rename("")
        self._bars.stop()

    def begin(
        self, name: str, *, images: int, done: int = 0, kind: str = "", levels: Sequence[str] = ()
    ) -> None:
        """Start the bar of the next part of the run, the model `name` at all `levels`.

        `images` is the number of images at each level, of which `done` were classified before. `levels` are
        in words, and `kind` is the kind of noise or attack.
        """
        several = len(self._kinds) > 1
        self._rename(f"{kind} {name}" if several else name)
        if several:
            number = f"run, kind {self._kinds.index(kind) + 1} of {len(self._kinds)}"
            self._bars.update(self._run, description=number)
        self._heading = kind + (" at " if levels else "") + ", ".join(levels)
        self._levels = max(1, len(levels))
        self._passes_before = self._count_passes()
        self._bars.below = self._below
        self._bars.reset(self._cell, total=images, description=name, visible=True, **_state(done))

    def advance(self, images: int) -> None:
        """Add classified images; an image that is classified at several levels counts once for each level."""
        now = time.perf_counter()
        self._bars.update(self._run, advance=images, updated=now)
        self._bars.update(self._cell, advance=images // self._levels, updated=now)

    def fail(self) -> None:
        """Record that the part being measured has failed, so that its time is not printed."""
        self._name = ""

    def _rename(self, name: str) -> None:
        """Set the name of the part being measured; print the time of the part before if its name differs.

        Nothing is printed on a terminal.
        """
        if name == self._name:
            return
        if self._name and self._bars.disable and _shown.get():
            echo(f"{self._name}: {time.perf_counter() - self._since:.1f} s", err=True)
        self._name, self._since = name, time.perf_counter()

    def _below(self) -> RenderableType:
        """Return the line below the bars: kind, levels, passes and time of the part being measured."""
        passes = self._count_passes() - self._passes_before
        spent = _clock(self._bars.tasks[-1].elapsed or 0)
        line = Table.grid(Column(ratio=1, no_wrap=True), Column(no_wrap=True), padding=(0, 1), expand=True)
        line.add_row(Text(self._heading), Text(f"{passes:,} passes, {spent}" if passes else spent))
        return line


class Steps:
    """Progress over the steps of one loop: a bar, or a line of text after every tenth of the steps."""

    def __init__(self, *, unit: str = "steps", width: int = 30) -> None:
        """Prepare a bar. `unit` is the noun for steps, `width` the columns for the text beside it."""
        self._bars = _Bars(unit=unit, width=width)
        self._task = self._bars.add_task("", total=None, visible=False, **_state(0))
        self._started = False

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def update(self, done: int, total: int, text: str) -> None:
        """Report that `done` of `total` steps are finished; `text` is shown beside the bar."""
        if not self._started:  # steps of an earlier session do not count for the pace
            self._started = True
            self._bars.reset(self._task, total=total, visible=True, **_state(max(0, done - 1)))
        self._bars.update(
            self._task, completed=done, total=total, description=text, updated=time.perf_counter()
        )
        if self._bars.disable and _shown.get() and done * 10 // total != (done - 1) * 10 // total:
            echo(f"{done * 10 // total * 10} %: {text}", err=True)


def _state(done: int) -> dict[str, Any]:
    """Return the fields of a task of which `done` units were finished before this process."""
    return {"completed": done, "before": done, "updated": time.perf_counter()}


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))  # h:mm:ss
