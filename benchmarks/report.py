"""Results of the benchmarks: on disk, as Markdown tables, and in the documents."""

import json
import math
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from case import Row
from shapes import GROUPS

Facts = dict[str, str]


def facts(device: torch.device) -> Facts:
    """Return the name of the device, and the versions of the packages that can affect a measurement."""
    packages = ("torch", "numba", "numba-cuda", "foolbox", "fft-conv-pytorch", "neuraloperator")
    packages += ("pyautoattack", "adv-lib")
    found = {name: _version(name) for name in packages}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        found |= {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}
    else:
        name = f"{_processor()}, {torch.get_num_threads()} threads"
    return {"device": name} | {key: value for key, value in found.items() if value}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    cpu = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip() for line in (cpu.read_text().splitlines() if cpu.exists() else ())
        if line.startswith("model name")
    ]  # fmt: skip
    return names[0] if names else platform.processor() or platform.machine()


def write(path: Path, where: Facts, rows: Iterable[Row]) -> None:
    """Write the facts `where`, the names of the fields and a line of JSON per row; replace the whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(astuple(row), separators=(",", ":")) for row in rows]
    names = json.dumps([field.name for field in fields(Row)])
    text = f'{{"where": {json.dumps(where)},\n"fields": {names},\n"rows": [\n' + ",\n".join(lines) + "\n]}\n"
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").replace(path)


def read(path: Path) -> tuple[Facts, list[Row]]:
    """Return the facts and the rows of a file that `write` wrote."""
    found = json.loads(path.read_text())
    return found["where"], [Row(**dict(zip(found["fields"], row, strict=True))) for row in found["rows"]]


def key(row: Row) -> tuple[object, ...]:
    """Return the key of a row: a new row replaces an old one with the same key."""
    return (
        row.group, row.layer, row.precision, row.batch, row.passes, row.compression, row.fft_size, row.peer
    )  # fmt: skip


def headline(where: Facts) -> str:
    """Return the facts of a measurement, its device and versions, as one line of text."""
    return where["device"] + ", " + ", ".join(f"{k} {v}" for k, v in where.items() if k != "device")


def tables(rows: list[Row]) -> list[str]:
    """Return the lines of Markdown tables of all peers, one for each group of layers, batch and the like."""
    return _titled(rows, _ratios)


def summary(rows: list[Row]) -> list[str]:
    """Return the lines of shorter tables: our layer in each layout, and the means of the other peers."""
    return _titled(rows, lambda chosen: [*_ratios([r for r in chosen if _is_ours(r)]), *_means(chosen)])


def _titled(rows: list[Row], lines_of: Callable[[list[Row]], list[str]]) -> list[str]:
    """Return the lines for each precision, batch, pass and group of layers, each below its title."""
    lines: list[str] = []
    order = [*GROUPS]
    found = dict.fromkeys((row.group, row.precision, row.batch, row.passes) for row in rows)
    for section in sorted(found, key=lambda s: order.index(s[0]) if s[0] in order else len(order)):
        group, precision, batch, passes = section
        chosen = [r for r in rows if (r.group, r.precision, r.batch, r.passes) == section]
        title = {"both": "forward and backward", "launch": "eager launch"}.get(passes, passes)
        lines += ["", f"**{group}, {precision}, batch {batch}, {title}**", ""]
        lines += _launches(chosen) if passes == "launch" else lines_of(chosen)
    return lines[1:]


def _is_ours(row: Row) -> bool:
    return row.peer.startswith(("ordinary", "auto"))


def _ratios(rows: list[Row]) -> list[str]:
    layers = _layers(rows)
    heads = []
    for layer in layers:
        times = [row.ms for row in rows if row.layer == layer and row.peer == row.base and row.ms is not None]
        heads.append(f"{layer} ({times[0]:.3g} ms)" if times else layer)
    lines = [
        "| compression | size | peer | " + " | ".join(heads) + " | mean | memory | saved | of roofline |",
        "|" + "---|" * (len(layers) + 7),
    ]
    without: dict[str, None] = {}
    for compression, size, peer in dict.fromkeys((r.compression, r.fft_size, r.peer) for r in rows):
        cells = {
            row.layer: row
            for row in rows
            if (row.compression, row.fft_size, row.peer) == (compression, size, peer)
        }
        if all(row.ratio is None for row in cells.values()):
            without |= dict.fromkeys(f"{peer} ({row.note})" for row in cells.values())
            continue
        found = [cells[layer] for layer in layers if layer in cells]
        shown = [_cell(cells.get(layer)) for layer in layers]
        band = ["", ""] if peer.startswith("ordinary") else [f"{compression:g}", size]
        means = [
            f"**{_mean([r.ratio for r in found])}**", _mean([r.peak_ratio for r in found]),
            _mean([r.saved for r in found]), _mean([r.roofline for r in found]),
        ]  # fmt: skip
        lines.append("| " + " | ".join([*band, peer, *shown, *means]) + " |")
    if without:
        lines += ["", "Without a figure: " + "; ".join(without) + "."]
    return lines


def _means(rows: list[Row]) -> list[str]:
    """Return the lines of a table with the mean ratio of each peer, in its better layout, by compression.

    If only some of the layers have a ratio, their number follows the mean. There are no lines if only our
    layer and the ordinary one were measured.
    """
    count, ratios = len(_layers(rows)), defaultdict[tuple[str, str], dict[str, list[float]]](dict)
    for row in rows:
        name = row.peer.removesuffix(" NCHW").removesuffix(" channels_last")
        if name != "ordinary":
            found = ratios[name, f"{row.compression:.0%}, {row.fft_size}"].setdefault(row.peer, [])
            found += [] if row.ratio is None else [row.ratio]
    names, cuts = (list(dict.fromkeys(key[n] for key in ratios)) for n in (0, 1))
    if names in ([], ["auto"]):
        return []

    def cell(name: str, cut: str) -> str:
        best = max(ratios[name, cut].values(), key=lambda r: (len(r), -math.prod(r)), default=[])
        return _mean([*best]) + (f" ({len(best)} of {count})" if 0 < len(best) < count else "")

    lines = ["", "| peer | " + " | ".join(cuts) + " |", "|" + "---|" * (1 + len(cuts))]
    return lines + ["| " + " | ".join([name, *(cell(name, cut) for cut in cuts)]) + " |" for name in names]


def _layers(rows: list[Row]) -> list[str]:
    """Return the names of the layers in the order of their groups; unknown ones are last."""
    order = [str(layer) for group in GROUPS.values() for layer in group.layers]
    found = dict.fromkeys(row.layer for row in rows)
    return sorted(found, key=lambda layer: order.index(layer) if layer in order else len(order))


def _cell(row: Row | None) -> str:
    if row is None or row.ratio is None:
        return "-"
    return f"{row.ratio:.2f}" + (f" {row.note}" if row.note else "")


def _mean(values: list[float | None]) -> str:
    """Return the geometric mean of the numbers that are not None, as text; "-" if there are none."""
    found = [value for value in values if value]
    return f"{math.exp(statistics.fmean(map(math.log, found))):.2f}" if found else "-"


def _launches(rows: list[Row]) -> list[str]:
    lines = ["| layer | compression | peer | us of host time |", "|---|---|---|---|"]
    return lines + [
        f"| {r.layer} | {r.compression:g} | {r.peer} | {1000 * (r.ms or math.nan):.0f} |" for r in rows
    ]


def fill(document: Path, name: str, lines: list[str]) -> None:
    """Write `lines` into a document as its table `name`. Raises `ValueError` as `filled` does."""
    document.write_text(filled(document.read_text(), name, lines))


def filled(text: str, name: str, lines: list[str]) -> str:
    """Return `text` with `lines` between `<!-- table: name -->` and the next `<!-- end -->`.

    Raises `ValueError` if these markers are missing.
    """
    start, end = f"<!-- table: {name} -->", "<!-- end -->"
    head, _, rest = text.partition(start)
    _, closed, tail = rest.partition(end)
    if text.count(start) != 1 or not closed:
        raise ValueError(f"the document must have one {start} and an {end} after it")
    return head + "\n".join([start, "", *lines, "", end]) + tail
