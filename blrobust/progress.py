"""Progress of long work on stderr: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Sequence
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

NAME = 20  # columns for a label: with it a line of bar and numbers fits into 60 columns
UNKNOWN = "-:--:--"


class Escaped:
    """A renderable of rich whose text is escaped: only rich itself writes control sequences."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._content, options):
            yield segment if segment.control else Segment(escape_lines(segment.text), segment.style)


class _SteadyConsole(Console):
    """stderr, with a cursor that stays visible, so that no way to end the process leaves it hidden."""

    def show_cursor(self, show: bool = True) -> bool:
        """Change nothing."""
        return False


class _Remaining(ProgressColumn):
    """`done/total UNIT, h:mm:ss to go`."""

    def __init__(self, unit: str) -> None:
        super().__init__(Column(no_wrap=True, justify="right"))
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:.0f}/{task.total or 0:.0f} {self._unit}, {_to_go(task)} to go")


def _to_go(task: Task) -> str:
    """Return the time to go at the mean pace of this session, counting down between two updates.

    It is unknown before the first update, and after the predicted time is over without an update.
    """
    before, updated = task.fields["before"], task.fields["updated"]
    if task.completed == before or task.start_time is None or task.remaining is None:
        return UNKNOWN
    whole = (updated - task.start_time) / (task.completed - before) * task.remaining
    left = whole - (task.get_time() - updated)
    return _clock(left) if left > 0 or task.remaining == 0 else UNKNOWN


class _Bars(Progress):
    """A bar for every visible task; they disappear at the end, also after Ctrl-C."""

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
            disable=not console.is_terminal,
            get_time=lambda: time.perf_counter(),
        )

    below: Callable[[], RenderableType] | None = None  # returns the line below the bars

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the table of bars and the line below it."""
        yield from map(Escaped, super().get_renderables())
        if self.below is not None:
            yield Escaped(self.below())


class Meter:
    """Progress over all images of a run: bars of the run and of its present cell, or lines.

    Off a terminal one line is printed when a model is done, with the time it took.
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

        `kinds` are all kinds that the run measures, in order. `passes` returns the number of images in
        forward passes so far; it also grows within a block.
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
        """Remove the bars; print the last line unless the work failed."""
        if error is None:
            self._rename("")
        self._bars.stop()

    def begin(
        self, name: str, *, images: int, done: int = 0, kind: str = "", levels: Sequence[str] = ()
    ) -> None:
        """Start a cell at `done` of its `images` per level; the levels are in words."""
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
        """Add classified images; an image that is classified at several levels counts once for each."""
        now = time.perf_counter()
        self._bars.update(self._run, advance=images, updated=now)
        self._bars.update(self._cell, advance=images // self._levels, updated=now)

    def fail(self) -> None:
        """Forget the present cell, which failed: its time is not printed."""
        self._name = ""

    def _rename(self, name: str) -> None:
        """Off a terminal, print the time that the previous name took."""
        if name == self._name:
            return
        if self._name and self._bars.disable:
            echo(f"{self._name}: {time.perf_counter() - self._since:.1f} s", err=True)
        self._name, self._since = name, time.perf_counter()

    def _below(self) -> RenderableType:
        """Return the kind, levels, passes and time of the cell, which also change within a block."""
        passes = self._count_passes() - self._passes_before
        spent = _clock(self._bars.tasks[-1].elapsed or 0)
        line = Table.grid(Column(ratio=1, no_wrap=True), Column(no_wrap=True), padding=(0, 1), expand=True)
        line.add_row(Text(self._heading), Text(f"{passes:,} passes, {spent}" if passes else spent))
        return line


class Steps:
    """Progress over the steps of one loop: a bar, or a line at every tenth of the way."""

    def __init__(self, *, unit: str = "steps", width: int = 30) -> None:
        """Count in `unit`; `width` columns are for the text beside the bar."""
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
        if self._bars.disable and done * 10 // total != (done - 1) * 10 // total:
            echo(f"{done * 10 // total * 10} %: {text}", err=True)


def _state(done: int) -> dict[str, Any]:
    """Return the fields of a task that starts with `done` finished before."""
    return {"completed": done, "before": done, "updated": time.perf_counter()}


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))  # h:mm:ss
