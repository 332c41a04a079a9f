"""Speed of the attacks: their overhead, and a comparison with other packages.

    python benchmarks/attacks.py [--device cuda] [--model fp32] [--images 1000] [--steps 100]

The modules `attack_overhead` and `attack_peers` measure. The overhead is that of a second run of an attack:
the first run also makes the passes that serve all strengths, such as those on clean images. Attacks whose
first run takes more than `attack_overhead.SLOW` seconds run only once.
Writes attacks-DEVICE.json, in which rows that are not measured again stay; `--doc` fills the tables of a
document.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import report
from attack_overhead import Row, measure
from attack_peers import compare

from blrobust.attacks.catalogue.selection import kinds
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.data import datasets
from blrobust.device import full_precision, resolve
from blrobust.models import model_names, zoo
from blrobust.perturbations.base import block_size


def overhead_table(rows: list[Row]) -> list[str]:
    """Return the lines of the Markdown table of the attacks' overhead."""
    shares = ["of the calls", "of full blocks"]
    names = ["attack", "strength", "images", "images/s", *shares, "forwards", "backwards", "left", "note"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        cells = [row.attack, f"{row.strength:.3g}", str(row.images), _shown(row.images_per_second, ".0f")]
        cells += [f"**{_shown(row.of_calls, '.2f')}**", _shown(row.of_full, ".2f")]
        cells += [_shown(row.forwards, ".1f"), _shown(row.backwards, ".1f"), _shown(row.accuracy, ".1%")]
        lines.append("| " + " | ".join([*cells, row.note]) + " |")
    return lines


def peers_table(rows: list[Row]) -> list[str]:
    """Return the lines of the Markdown table of our attacks and those of other packages."""
    lines = ["| attack | by | strength | images/s | accuracy left |", "|---|---|---|---|---|"]
    for row in rows:
        left = row.note or _shown(row.accuracy, ".1%")
        cells = [row.attack, row.by, f"{row.strength:.4f}", _shown(row.images_per_second, ".0f"), left]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _shown(figure: float | None, form: str) -> str:
    return "-" if figure is None else format(figure, form)


def main() -> None:
    """Parse the command line, measure, print the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="fp32")
    parser.add_argument("--dataset", help="as the command line takes it  [default: cifar10 or its sample]")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--kinds", default=",".join(k for k in ATTACKS if "brendel" not in k), help="empty for none"
    )
    parser.add_argument("--steps", type=int, default=100, help="of the comparison with other packages")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--doc", type=Path, help="fill the tables of this document")
    options = parser.parse_args()
    device = resolve(options.device)
    data = datasets.load(options.dataset) if options.dataset else datasets.load_default()
    data = data.take(options.images)
    (name,) = model_names.parse_names(options.model)
    model = zoo.load(name, arch="resnet20", dataset=data, device=device).module
    labels = data.labels.to(device)
    size = min(block_size(data.images.shape[1:], device), len(data))
    blocks = [
        (data.pixels(slice(i, i + size), device), labels[i : i + size], range(i, min(i + size, len(data))))
        for i in range(0, len(data), size)
    ]
    where = report.facts(device) | {"network": options.model}
    compared = {"images": str(len(data)), "block": str(size), "steps": str(options.steps)}
    path = options.out / f"attacks-{device.type}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Rows that are not measured again stay.
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    tables = {"overhead": overhead_table, "peers": peers_table}
    work: dict[str, Iterator[Row]] = {}
    if options.kinds:
        work["overhead"] = measure(model, blocks, list(kinds(options.kinds)))
    if not options.skip_peers:
        work["peers"] = compare(model, blocks, options.steps)
    with full_precision():
        for part, rows in work.items():
            facts = where | (compared if part == "peers" else {})
            kept = {(row["attack"], row["by"]): row for row in results.get(part, {"rows": []})["rows"]}
            for row in rows:
                print(tables[part]([row])[-1], flush=True)
                kept[row.attack, row.by] = asdict(row)
                results[part] = {"where": facts, "rows": list(kept.values())}
                path.write_text(json.dumps(results, indent=1) + "\n")
    for part, result in results.items() if options.doc else ():
        lines = [report.headline(result["where"]), "", *tables[part]([Row(**row) for row in result["rows"]])]
        report.fill(options.doc, f"attacks-{part}-{device.type}", lines)


if __name__ == "__main__":
    main()
