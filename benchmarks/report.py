"""Results of the benchmarks: on disk, as Markdown tables, and in the documents."""

import json
import math
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from case import Row

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
    """Write the facts `where` and the rows as JSON, one row per line; the file is replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({k: v for k, v in asdict(row).items() if v not in (None, "")}) for row in rows]
    text = f'{{"where": {json.dumps(where)},\n"rows": [\n' + ",\n".join(lines) + "\n]}\n"
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").replace(path)


def read(path: Path) -> tuple[Facts, list[Row]]:
    """Return the facts and the rows of a file that `write` wrote."""
    found = json.loads(path.read_text())
    return found["where"], [Row(**row) for row in found["rows"]]


def key(row: Row) -> tuple[object, ...]:
    """Return the key of a row: a new row replaces an old one with the same key."""
    return (
        row.group, row.layer, row.precision, row.batch, row.passes, row.compression, row.fft_size, row.peer
    )  # fmt: skip


def headline(where: Facts) -> str:
    """Return the facts of a measurement, its device and versions, as one line of text."""
    return where["device"] + ", " + ", ".join(f"{k} {v}" for k, v in where.items() if k != "device")


def tables(rows: list[Row]) -> list[str]:
    """Return the lines of Markdown tables, one for each precision, batch, pass and group of layers."""
    lines: list[str] = []
    sections = dict.fromkeys((row.precision, row.batch, row.passes, row.group) for row in rows)
    for section in sections:
        precision, batch, passes, group = section
        chosen = [r for r in rows if (r.precision, r.batch, r.passes, r.group) == section]
        title = {"both": "forward and backward", "launch": "eager launch"}.get(passes, passes)
        lines += ["", f"**{group}, {precision}, batch {batch}, {title}**", ""]
        lines += _launches(chosen) if passes == "launch" else _ratios(chosen)
    return lines[1:]


def _ratios(rows: list[Row]) -> list[str]:
    layers = list(dict.fromkeys(row.layer for row in rows))
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
