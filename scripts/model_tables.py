"""Tables of docs/models.md, from the metadata of the bundled checkpoints."""

import json

from markdown_tables import percent, table

from blrobust.models import checkpoint
from blrobust.models.channel_names import CUTS
from blrobust.models.zoo import BUNDLED, Entry

ORDER = (
    *("fp32", "fp16", "bf16", "fft50", "fft85", "fft85-compact"),
    *("fp32-early", "fp32-narrow", "fp32-lowpass", "fp32-noise"),
)
STEM = "cifar10-resnet20-"


def bundled() -> list[str]:
    """Return a table with a row per bundled checkpoint. Raises `ValueError` if `ORDER` has other names."""
    paths = {path.stem.removeprefix(STEM): path for path in BUNDLED.glob("*.safetensors")}
    if set(paths) != set(ORDER):
        raise ValueError(f"got the bundled models {sorted(paths)}; legal: those of ORDER, {sorted(ORDER)}")
    rows = []
    for name in ORDER:
        facts = checkpoint.load(paths[name])[1]
        entry = Entry(name, paths[name], facts, bundled=True)
        parameters = sum(p.numel() for p in facts.build().parameters())
        effective = f"{entry.effective:.3f}" if facts.compression else "0"
        cells = [f"{facts.compression:g}", effective, f"{parameters:,}"]
        cells += [str(facts.recipe["epochs"]), f"{100 * (facts.test_accuracy or 0):.2f} %"]
        rows.append([f"`{name}`", *cells])
    head = ["name", "nominal compression", "effective", "parameters", "epochs", "test accuracy"]
    return table(head, rows)


def cuts() -> list[str]:
    """Return the table of the low-passes in front of fp32 that match the accuracy of a band-limited model."""
    rows = []
    for name, found in json.loads(CUTS.read_text("utf-8"))["cifar10-resnet20"].items():
        cells = [f"`lowpass{found['cut']:g}`", percent(found["held_out_accuracy"]), percent(found["matched"])]
        rows.append([f"`lowpass-{name}`", *cells, f"`{name}`"])
    head = ["channel", "same as", "accuracy of `fp32` behind it", "accuracy to match", "of"]
    return table(head, rows)
