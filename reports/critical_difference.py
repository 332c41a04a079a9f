"""The diagram of mean ranks and their critical difference, drawn as an SVG element for a page."""

from dataclasses import dataclass

from markupsafe import Markup

from blrobust.analysis.ranking import Ranking
from blrobust.escaping import escape
from blrobust.reports import svg
from blrobust.reports.palette import FAINT, INK, PAPER, colour, themed

WIDE, NARROW = 680, 328  # units; text of 11 units is 11 pixels high or more
TEXT, ROW, MARKER = 11, 22, 4.5
AXIS = 52  # from the top to the axis of ranks
MOST_LETTERS = {WIDE: 40, NARROW: 18}  # of a name
SVG = Markup(
    '<svg xmlns="{}" viewBox="0 0 {} {}" font-family="{}" font-size="{}" role="img" aria-label="{}">{}</svg>'
)
DOT = Markup('<circle cx="{:.1f}" cy="{}" r="{}" style="fill: {}; stroke: {}"><title>{}</title></circle>')
LINE = Markup('<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" style="stroke: {}; stroke-width: {}; fill: none"/>')
LABEL = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" style="fill: {}">{}</text>')


@dataclass(frozen=True)
class _Scale:
    """The horizontal positions of ranks."""

    left: float
    right: float
    most: int

    def at(self, rank: float) -> float:
        """Return the position of a rank; 1 is at the left."""
        return self.left + (rank - 1) / (self.most - 1) * (self.right - self.left)


def diagram(ranking: Ranking, *, numbers: dict[str, int], width: int) -> Markup:
    """Return the diagram: an axis of mean ranks with a line to each model.

    Bars join the models between which no difference is found. `numbers` are the numbers of the models on
    the page, which decide on their colours.
    """
    models, cliques = list(ranking.ranks.index), ranking.cliques
    scale = _Scale(0.32 * width, width - 24, len(models))
    first_row = AXIS + 10 + 9 * len(cliques) + ROW
    parts = [*_axis(scale), *_critical_difference(scale, ranking.critical_difference)]
    for row, model in enumerate(models):
        number, y = numbers[model], first_row + ROW * row
        parts.append(_model(scale, str(model), ranking.ranks[model], number, y, most=MOST_LETTERS[width]))
    for row, clique in enumerate(cliques):
        ends = [scale.at(ranking.ranks[model]) for model in (clique[0], clique[-1])]
        parts.append(_line(ends[0] - 4, AXIS + 10 + 9 * row, ends[1] + 4, AXIS + 10 + 9 * row, width=4))
    return SVG.format(
        svg.SVG,
        width,
        first_row + ROW * len(models),
        svg.FONT,
        TEXT,
        "Mean ranks of the models; the numbers are in the table",
        Markup("").join(parts),
    )


def _axis(scale: _Scale) -> list[Markup]:
    parts = [_line(scale.left, AXIS, scale.right, AXIS, colour=FAINT)]
    for rank in range(1, scale.most + 1):
        parts.append(_line(scale.at(rank), AXIS - 5, scale.at(rank), AXIS, colour=FAINT))
        parts.append(_text(scale.at(rank), AXIS - 9, str(rank), anchor="middle"))
    return [*parts, _text(scale.left - 14, AXIS - 9, "mean rank", anchor="end")]


def _critical_difference(scale: _Scale, difference: float) -> list[Markup]:
    end = min(scale.at(1 + difference), scale.right)
    return [
        _line(scale.left, 22, end, 22, width=2),
        _line(scale.left, 18, scale.left, 26, width=2),
        *([_line(end, 18, end, 26, width=2)] if end < scale.right else []),
        _text(scale.left, 12, f"critical difference {difference:.2f}"),
    ]


def _model(scale: _Scale, name: str, rank: float, number: int, y: float, *, most: int) -> Markup:
    x, ink = scale.at(rank), colour(number)
    return Markup('<g data-model="{}">{}{}{}{}</g>').format(
        number,
        _line(x, AXIS, x, y, colour=ink, width=1.4),
        _line(scale.left - 10, y, x, y, colour=ink, width=1.4),
        Markup(
            '<circle cx="{:.1f}" cy="{}" r="{}" style="fill: {}; stroke: {}"><title>{}</title></circle>'
        ).format(x, AXIS, MARKER, themed(ink), themed(PAPER), escape(f"{name}: mean rank {rank:.2f}")),
        _text(scale.left - 14, y + 4, _short(name, most), anchor="end"),
    )


def _line(x: float, y: float, u: float, v: float, *, colour: str = INK, width: float = 1) -> Markup:
    return Markup(
        '<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" style="stroke: {}; stroke-width: {}; fill: none"/>'
    ).format(x, y, u, v, themed(colour), width)


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> Markup:
    return LABEL.format(x, y, anchor, themed(INK), text)


def _short(name: str, most: int) -> str:
    shown = escape(name)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
