"""Write tables and pictures of README.md and docs/ from committed results: `python scripts/write_docs.py`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `DOCUMENTS` has the function that makes it.
`--check` writes nothing and fails where a document differs from the results. `--pictures` also draws
docs/controls.png, runs the README's first command and saves a screenshot of its report, by Chromium, as
docs/report.png.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import control_tables
import doc_pictures
import l1_tables
import model_tables
import performance_tables
import reliability_tables
import series_tables
from performance_tables import report

ROOT = Path(__file__).parents[1]
Table = Callable[[], list[str]]
DOCUMENTS: dict[str, dict[str, Table]] = {
    "README.md": {"published-distance": control_tables.distance, "layer": performance_tables.layer},
    "docs/models.md": {
        "bundled-models": model_tables.bundled,
        "matched-low-passes": model_tables.cuts,
        "control-selection": control_tables.selection,
    },
    "docs/controls.md": {
        "noise-summary": control_tables.summary,
        "noise-accuracy": control_tables.accuracy,
        "noise-paired": control_tables.noise_paired,
        "noise-published": control_tables.published,
        "attack-accuracy": control_tables.attacks,
        "attack-paired": control_tables.attack_paired,
    },
    "docs/attacks.md": {"l1-attacks": l1_tables.accuracy, "published-series": series_tables.published},
    "docs/performance.md": performance_tables.all_tables(),
    "docs/reliability.md": {
        "fault-trials": reliability_tables.trials,
        "fault-calls": reliability_tables.calls,
        "fault-effects": reliability_tables.effects,
    },
}


def main() -> None:
    """Parse the command line, write or check every document, and draw the pictures if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a document is out of date")
    parser.add_argument("--pictures", action="store_true", help="draw the pictures too; takes minutes")
    arguments = parser.parse_args()
    outdated = []
    for document, tables in DOCUMENTS.items():
        path = ROOT / document
        text = before = path.read_text("utf-8")
        for name, make in tables.items():
            text = report.filled(text, name, make())
        if text != before:
            outdated.append(document)
            if not arguments.check:
                path.write_text(text, "utf-8")
    if arguments.check and outdated:
        sys.exit(f"out of date: {', '.join(outdated)}; run: python scripts/write_docs.py")
    if arguments.pictures:
        doc_pictures.controls(ROOT / "docs" / "controls.png")
        doc_pictures.report(ROOT / "docs" / "report.png")


if __name__ == "__main__":
    main()
