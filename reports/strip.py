"""One image under noise or an attack, level by level, with the predictions of the models."""

import base64
from dataclasses import dataclass

from blrobust.analysis.analysis import Analysis
from blrobust.reports.axes import Axis


@dataclass(frozen=True)
class Strip:
    """One image at several levels, with the class that each model predicts at each level."""

    sample: int
    label: str
    pictures: list[tuple[str, str]]  # level in words, image as data URI
    rows: list[tuple[str, list[tuple[str, bool]]]]  # model, then class and whether it is correct


def image_strip(analysis: Analysis, on: Axis) -> Strip | None:
    """Return the strip of a run with stored pictures, else None; of several seeds the first is shown."""
    run, kind = analysis.run, analysis.kind
    pictures = [picture for picture in run.pictures() if picture.kind == kind]
    if not pictures:
        return None
    classes = run.record.dataset.classes
    sample, label = pictures[0].sample, pictures[0].label
    rows = []
    for model, group in analysis.groups.items():
        predictions = [
            int(run.outcome(group.members[0], kind, picture.level, 0)["prediction"][sample])
            for picture in pictures
        ]
        # -1 stands for logits that are not finite.
        rows.append((model, [(classes[p] if p >= 0 else "none", p == label) for p in predictions]))
    uris = [f"data:image/png;base64,{base64.b64encode(p.png).decode()}" for p in pictures]
    words = [on.describe(picture.level) for picture in pictures]
    return Strip(sample, classes[label], list(zip(words, uris, strict=True)), rows)
