"""Names of channels (transforms of the image) in a model name such as `depth5+blur0.6+fp32`.

Channels are applied from left to right.
"""

import json
import re
from functools import cache
from pathlib import Path

from torch import nn

from blrobust.errors import UserError
from blrobust.models.channels import ColourDepth, GaussianBlur, LowPass

CUTS = Path(__file__).parents[1] / "weights" / "low_pass_cuts.json"
GRAMMAR = {
    "lowpassC": "low-pass filter of the image with nominal compression C, such as lowpass0.48",
    "lowpass-fftNN": "the low-pass filter behind which fp32 is nearest to the clean accuracy of fftNN",
    "depthB": "colours rounded to B bits, such as depth5",
    "blurS": "Gaussian blur with a standard deviation of S pixels, such as blur0.6",
}
_CHANNEL = re.compile(r"(?P<word>lowpass|depth|blur)(?P<value>[-.\d][^+]*)")


def split_channels(target: str) -> tuple[tuple[str, ...], str]:
    """Return the channels (transforms of the image) in front of a model, from left to right, and the model.

    `target` is CHANNEL+...+MODEL, or a model without channels. Raises `UserError` for a channel without a
    model behind it.
    """
    words: list[str] = []
    while _CHANNEL.match(target):
        word, plus, rest = target.partition("+")
        if not plus or not rest:
            raise UserError(f"got the channel {word!r} without a model; legal: {word}+fp32, for example")
        words.append(word)
        target = rest
    return tuple(words), target


def build_channel(word: str, *, trained: str) -> nn.Module:
    """Return the channel (transform of the image) with a name such as "lowpass0.48".

    `trained` is a data set and an architecture, such as "cifar10-resnet20". The compression of a channel such
    as "lowpass-fft85" is looked up under this name. Raises `UserError` for an unknown word or an illegal
    value.
    """
    match = _CHANNEL.fullmatch(word)
    legal = f"got the channel {word!r}; legal: {', '.join(GRAMMAR)}"
    if match is None:
        raise UserError(legal)
    kind, value = match["word"], match["value"]
    if kind == "lowpass" and value.startswith("-"):
        return LowPass(_matched_cut(value.removeprefix("-"), trained))
    try:
        number = int(value) if kind == "depth" else float(value)
    except ValueError:
        raise UserError(legal) from None
    if kind == "depth":
        return ColourDepth(int(number))
    return LowPass(number) if kind == "lowpass" else GaussianBlur(number)


def _matched_cut(name: str, trained: str) -> float:
    """Return the recorded compression with which fp32 behind a low-pass has the clean accuracy of `name`.

    `name` is a band-limited model, and `trained` a data set and an architecture, such as "cifar10-resnet20".
    Raises `UserError` if no compression is recorded for them.
    """
    cuts = recorded_cuts()
    if name not in cuts.get(trained, {}):
        legal = [f"lowpass-{n} ({t})" for t, found in cuts.items() for n in found]
        raise UserError(
            f"got lowpass-{name} for {trained}, for which no cut is recorded; legal: {', '.join(legal)}, "
            "or a cut of your own such as lowpass0.48"
        )
    return cuts[trained][name]


@cache
def recorded_cuts() -> dict[str, dict[str, float]]:
    """Return the compressions with which fp32 behind a low-pass has the clean accuracy of another model.

    The result has two levels of keys: a data set and an architecture, such as "cifar10-resnet20", and the
    name of the band-limited model, such as "fft85".
    """
    recorded = json.loads(CUTS.read_text("utf-8"))
    return {
        trained: {name: float(facts["cut"]) for name, facts in found.items()}
        for trained, found in recorded.items()
    }
