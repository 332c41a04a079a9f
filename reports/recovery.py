"""The page about recovered labels: one figure and one table for each attack."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from blrobust.analysis.level_norm import level_norm
from blrobust.analysis.recovery import RecoveryAnalysis
from blrobust.perturbations.levels import format_level
from blrobust.reports import paper_curves, svg, template
from blrobust.reports.bibliography import bibtex
from blrobust.reports.conclusions import few_images
from blrobust.reports.downloads import bibliography_file, results_file
from blrobust.reports.figures import (
    COLOURS,
    LINE,
    MARKERS,
    NARROW,
    PUBLISHED,
    PUBLISHED_LINE,
    STYLE,
    WIDE,
)
from blrobust.reports.number_text import NONE, fixed, percent, span
from blrobust.reports.tables import Cell, Table, flag_note

SETTINGS = {"pgd-linf": "PGD-Linf CIFAR10", "cw-l2": "CW-L2 CIFAR10"}  # attack -> published setting
FOLLOW_UP = "Dziedzic et al., follow-up, ResNet-18"  # later than paper_curves.LABEL
NETWORK = "network"  # the kind of channel that is another network; no line connects its points
CHANNELS = {"low-pass": "FC", "colour depth": "CD"}  # kind of channel -> published channel


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a name, a colour, and the SVG path of a marker, or None for a dashed line."""

    name: str
    colour: str
    shape: str | None = None
    has_line: bool = True


def render(results: RecoveryAnalysis, destination: Path) -> None:
    """Write the page of a recovery, completely or not at all."""
    run, by_channel = results.run, results.flags
    sections = [
        {
            **_section(
                str(attack),
                rows,
                results.broken,
                dataset=run.record.dataset.name,
                prefix=f"figure{number}",
            ),
            "warnings": few_images(int(rows.fooled.iloc[0]), noun="fooled image"),
            "flags": flag_note({channel: f for (kind, channel), f in by_channel.items() if kind == attack}),
        }
        for number, (attack, rows) in enumerate(results.table.groupby("attack", sort=False))
    ]
    sources = bibtex(results.table.attack.unique())
    template.render(
        "recovery.html",
        destination,
        of=[run],
        record=run.record,
        folder=str(run.path),
        sections=sections,
        files=[results_file(results.table), *([bibliography_file(sources)] if sources else [])],
        bibtex=sources,
        published_label=FOLLOW_UP,
        percent=percent,
    )


def facts(rows: pd.DataFrame) -> str:
    """Return one line about an attack: its strength, and the numbers of correct and of fooled images.

    `rows` are the rows of the attack in `RecoveryAnalysis.table`.
    """
    row = rows.iloc[0]
    at = "smallest perturbation"
    if not np.isnan(row.strength):
        at = f"strength {format_level(row.strength, level_norm(row.attack, 'pixel'))}"
    return (
        f"{row.attack}, {at}: {row.source} classifies {row.right} of {row.n} images correctly, and the "
        f"attack fools it on {row.fooled}"
    )


def share(count: int, of: int) -> str:
    """Return a count and its share of the total `of`, such as "12 (40 %)"; a dash if the total is 0."""
    return f"{count} ({fixed(100 * count / of, 0)} %)" if of else "-"


def images(count: int) -> str:
    """Return the number of images of a mean in words, such as "of 6 images"."""
    return f"of {count} image{'' if count == 1 else 's'}"


def points(attack: str, kind: str, *, dataset: str) -> pd.DataFrame:
    """Return the published columns L2_distortion and recovered_acc (in per cent) for an attack and channel.

    A channel is a transform of the image that may recover the label; `kind` is its kind. The frame is empty
    if nothing was published for this attack, kind of channel and data set.
    """
    source = files("blrobust.reports") / "reference" / "label_recovery.csv"
    with source.open() as file:
        frame = pd.read_csv(file)
    if dataset not in paper_curves.DATASETS:
        return frame.iloc[:0]
    matching = (frame.setting == SETTINGS.get(attack)) & (frame.channel == CHANNELS.get(kind))
    return frame[matching & (frame.L2_distortion > 0)].sort_values("L2_distortion")


def _section(
    attack: str, rows: pd.DataFrame, broken: dict[tuple[str, str], int], *, dataset: str, prefix: str
) -> dict[str, Any]:
    dashed = {kind: points(attack, kind, dataset=dataset) for kind in rows.kind.unique()}
    colours = dict(zip(rows.kind.unique(), COLOURS[1:], strict=False))
    shapes = dict(zip(colours, MARKERS.values(), strict=False))
    legend = [Key(kind, colours[kind], shapes[kind], has_line=kind != NETWORK) for kind in colours]
    legend += [Key(f"{kind}, {FOLLOW_UP}", colours[kind]) for kind in colours if len(dashed[kind])]
    return {
        "attack": attack,
        "facts": f"{facts(rows)}.",
        **{
            name: _figure(attack, rows, dashed, colours, size=size, prefix=f"{prefix}{name}")
            for name, size in (("wide", WIDE), ("narrow", NARROW))
        },
        "legend": legend,
        "published": any(len(found) for found in dashed.values()),
        "table": _table(rows, broken),
    }


def _figure(
    attack: str,
    rows: pd.DataFrame,
    dashed: dict[str, pd.DataFrame],
    colours: dict[str, str],
    *,
    size: tuple[float, float],
    prefix: str,
) -> Markup:
    with svg.styled("default", seaborn.axes_style("whitegrid"), STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        tips: dict[str, list[str]] = {}
        for (kind, group), marker in zip(rows.groupby("kind", sort=False), MARKERS, strict=False):
            group = group.sort_values("distortion")
            old = dashed[str(kind)]
            axes.plot(
                old.L2_distortion,
                old.recovered_acc,
                color=colours[str(kind)],
                linestyle=(0, PUBLISHED),
                linewidth=PUBLISHED_LINE,
            )
            y = 100 * group.recovered_share
            axes.vlines(
                group.distortion, 100 * group.ci_low, 100 * group.ci_high, color=colours[str(kind)], alpha=0.4
            )
            (line,) = axes.plot(
                group.distortion,
                y,
                color=colours[str(kind)],
                marker=marker,
                linewidth=0 if kind == NETWORK else LINE,
                markersize=6.5,
                markeredgecolor="white",
                markeredgewidth=0.8,
                clip_on=False,
            )
            line.set_gid(f"points-{len(tips)}")
            tips[f"points-{len(tips)}"] = [
                f"{row['channel']}: {row['recovered']} of {row['fooled']} recovered, "
                f"L2 {row['distortion']:.2f}"
                for row in group.to_dict("records")
            ]
        axes.set_xscale("log")
        axes.set(xlabel="mean L2 distance between image and input (log scale)", ylim=(0, 100))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:.0f} %")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        return svg.element(
            figure,
            prefix=prefix,
            label=f"Labels recovered from {attack}; numbers are in the table",
            tips=tips,
        )


def _table(rows: pd.DataFrame, broken: dict[tuple[str, str], int]) -> Table:
    """Return a row per channel; `broken` has the number of images for each mean in "adaptive L2"."""
    result = Table(
        ["channel", "effective compression", "distortion", "recovered", "clean", "adaptive", "adaptive L2"]
    )
    for row in rows.to_dict("records"):
        of = max(1, row["fooled"])
        dropped = row["effective_compression"]
        cells = [
            Cell(NONE if pd.isna(dropped) else percent(dropped)),
            Cell(NONE if pd.isna(row["distortion"]) else f"{row['distortion']:.2f}"),
            Cell(percent(row["recovered_share"]), span(row["ci_low"], row["ci_high"])),
            Cell(percent(row["clean"] / of)),
            Cell(percent(row["adaptive"] / of)),
            Cell(NONE)
            if pd.isna(row["adaptive_l2"])
            else Cell(f"{row['adaptive_l2']:.2f}", images(broken[row["attack"], row["channel"]])),
        ]
        result.rows.append((row["channel"], cells))
    return result
