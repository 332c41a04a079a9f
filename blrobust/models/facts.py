"""The facts about a model in the metadata of its checkpoint, validated by the types of their fields."""

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from blconv.band import check_compression, check_fft_size
from blrobust.data.labelled_images import MOST_LABELS
from blrobust.models.classifier import ARCHITECTURES, Classifier, build
from blrobust.models.precision import PRECISIONS

MOST_TEXT = 10_000  # characters of all facts; ours have fewer than a thousand
MOST_WIDTH = 1024  # a large number in a file must not fill the memory
MOST_FFT = 4096  # likewise

Text = Annotated[str, Meta(max_length=200)]
Share = Annotated[float, Meta(ge=0, le=1)]
PerChannel = Annotated[tuple[float, ...], Meta(min_length=1, max_length=MOST_WIDTH)]


@dataclass(frozen=True)
class Facts:
    """The metadata of a checkpoint: the settings to rebuild the model, its training and its accuracy."""

    arch: Text
    classes: Annotated[int, Meta(ge=1, le=MOST_LABELS)]
    precision: Text
    compression: float
    fft_size: Literal["paper", "compact"] | Annotated[int, Meta(ge=1, le=MOST_FFT)]
    dataset: Text
    mean: PerChannel
    std: PerChannel
    seed: Annotated[int, Meta(ge=0, lt=2**32)]
    recipe: dict[Text, float | int | bool | Text | None] = field(default_factory=dict)
    test_accuracy: Share | None = None  # share of the test images, on the stored weights
    holdout_accuracy: Share | None = None  # share of the training images that were held out
    version: Text = ""
    low_pass: float = 0.0  # nominal compression of a low-pass of the image; 0: none
    width: Annotated[int, Meta(ge=1, le=MOST_WIDTH)] | None = None  # of the first stage; None: the usual

    def __post_init__(self) -> None:
        """Raise `ValueError` for values that are not legal although the types of the fields allow them."""
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch {self.arch!r} is not one of {', '.join(ARCHITECTURES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean}, std {self.std}: wanted numbers, one a channel, std above 0")
        for text in (self.dataset, self.version, *self.recipe, *self.recipe.values()):
            if isinstance(text, str) and not text.isprintable():
                raise ValueError(f"got the text {text!r}; legal: printable characters")
        check_compression(self.compression)
        check_compression(self.low_pass)
        check_fft_size(self.fft_size)

    def build(self) -> Classifier:
        """Return the model that these facts describe, with untrained weights."""
        return build(
            self.arch,
            classes=self.classes,
            mean=self.mean,
            std=self.std,
            compression=self.compression,
            fft_size=self.fft_size,
            low_pass=self.low_pass,
            width=self.width,
        )

    def to_json(self) -> str:
        """Return the facts as JSON, their names sorted; raise `ValueError` for facts that are not legal."""
        text = json.dumps(asdict(self), sort_keys=True, allow_nan=False)
        self.from_json(text)
        return text

    @classmethod
    def from_json(cls, text: str) -> "Facts":
        """Return the facts in `text`, the JSON of a checkpoint; unknown names are left out.

        Raises `ValueError` for illegal content; the message has its position in the text.
        """
        if len(text) > MOST_TEXT:
            raise ValueError(f"got {len(text):,} characters; legal: at most {MOST_TEXT:,}")
        try:
            return msgspec.json.decode(text, type=cls)
        except RecursionError:
            raise ValueError("got values that are nested too deeply") from None
