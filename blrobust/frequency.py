"""The Python interface to heat maps over frequencies and to the recovery of labels; see also `api`."""

import math
from collections.abc import Sequence
from functools import partial
from numbers import Integral, Real
from os import fspath
from typing import Any

import torch
from torch import nn

from blrobust.data.given_images import Classes
from blrobust.errors import UserError
from blrobust.evaluation import heatmap as maps
from blrobust.evaluation import subjects
from blrobust.evaluation.arguments import MOST_SEED, check_number, check_range, listed
from blrobust.evaluation.call_text import call_text
from blrobust.evaluation.measurement import measuring
from blrobust.evaluation.observer import Observer, observed
from blrobust.evaluation.subjects import Data, Given, with_modules
from blrobust.models import channels, model_names
from blrobust.perturbations.levels import LARGEST
from blrobust.results import Results
from blrobust.user_paths import StrPath, optional, output_folder

MOST_NORM = 1e6


def heatmap(
    models: Given,
    *,
    data: Data = None,
    size: int | None = None,
    norm: float = 4.0,
    classes: Classes = None,
    limit: int | None = None,
    seed: int = 0,
    arch: str = "resnet20",
    data_dir: StrPath | None = None,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    out: StrPath | None = None,
    progress: bool | Observer = False,
) -> Results:
    """Measure the error of models when a single frequency is added to every image (Yin et al. 2019).

    The map has the `size` x `size` lowest frequencies. The default of `size` is the largest odd number up to
    the shorter side of the images. For each frequency, a wave of L2 norm `norm` is added to each colour
    channel; pixels are in [0, 1]. The other arguments are those of `api.evaluate`. Raises `UserError` for an
    illegal argument. If models fail, all others are measured before `FailedPartsError` is raised.
    """
    place = None if out is None else output_folder(out, "out")
    given = {
        "data": data, "size": size, "norm": norm, "classes": classes, "limit": limit, "seed": seed,
        "arch": arch, "device": device, "batch_size": batch_size, "out": None if out is None else fspath(out),
    }  # fmt: skip
    observer, call = observed(progress, call_text("heatmap", models, **given))
    models = with_modules(models)
    with measuring(observer, models, call=call):
        check_range("size", size, 1, optional=True)
        check_range("seed", seed, 0, MOST_SEED)
        check_range("batch_size", batch_size, 1, optional=True)
        check_number("norm", norm, 0, MOST_NORM, legal=f"0 to {MOST_NORM:g}")
        loaded = subjects.load(
            models=models, arch=arch, data=data, data_dir=optional(data_dir, "data_dir"), limit=limit,
            device=device, classes=classes, note=observer.note,
        )  # fmt: skip
        folder = maps.execute(
            models=loaded.models, dataset=loaded.dataset, size=size, norm=norm, seed=seed, arch=arch,
            device=loaded.device, batch_size=batch_size, out=place,
            on_start=partial(observer.begin, device=str(loaded.device)),
        )  # fmt: skip
    return Results([folder])


def recover(
    source: str = "fp32",
    *,
    data: Data = None,
    attacks: Sequence[str] = ("pgd-linf", "deepfool-l2"),
    strength: float | None = None,
    compressions: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    bits: Sequence[int] = (8, 5, 4, 3),
    networks: str | Sequence[str] = ("fft50", "fft85"),
    classes: Classes = None,
    limit: int | None = None,
    seed: int = 0,
    arch: str = "resnet20",
    data_dir: StrPath | None = None,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    out: StrPath | None = None,
    progress: bool | Observer = False,
) -> Results:
    """Count the adversarial inputs that are classified correctly again after a change of the model.

    The inputs are made by attacks on the model `source`. The changes are: low-pass filters with the nominal
    compressions `compressions` (the shares of the frequencies to drop), rounding to `bits` bits per colour
    value, and the models `networks` in place of the source. `strength` is the level of the attacks that do
    not search for the smallest perturbation, by default the third of their default levels, of which the first
    is 0. The other arguments are those of `api.evaluate`. Raises `UserError` for an illegal argument. If
    pairs of attack and change fail, all other pairs are measured before `FailedPartsError` is raised.
    """
    from blrobust.evaluation import recovery  # loads Foolbox

    place = None if out is None else output_folder(out, "out")
    given: dict[str, Any] = {
        "data": data, "attacks": attacks, "strength": strength, "compressions": compressions, "bits": bits,
        "networks": networks, "classes": classes, "limit": limit, "seed": seed, "arch": arch,
        "device": device, "batch_size": batch_size, "out": None if out is None else fspath(out),
    }  # fmt: skip
    observer, call = observed(progress, call_text("recover", source, **given))
    with measuring(observer, call=call):
        check_range("seed", seed, 0, MOST_SEED)
        check_range("batch_size", batch_size, 1, optional=True)
        if not isinstance(source, str):
            raise UserError(f"source: got a {type(source).__name__}; legal: the name of a model")
        if strength is not None:
            legal = f"numbers above 0, up to {LARGEST:g}"
            check_number("strength", strength, math.ulp(0), LARGEST, legal=legal)
        kinds = listed("attacks", attacks, str, legal="a list of names")
        shares = listed("compressions", compressions, Real, legal="a list of numbers from 0, below 1")
        if not isinstance(networks, str):
            networks = model_names.join_names(listed("networks", networks, str, legal="names of models"))
        depths = listed("bits", bits, Integral, legal="a list of whole numbers from 1 to 16")
        recovery.check_kinds(kinds)
        names = model_names.parse_names(networks)
        if source in names:
            raise UserError(f"networks: got {networks}; legal: models other than the source {source}")
        loaded = subjects.load(
            models=[source, *names], arch=arch, data=data, data_dir=optional(data_dir, "data_dir"),
            limit=limit, device=device, classes=classes, note=observer.note,
        )  # fmt: skip
        origin, *others = loaded.models
        height, width = loaded.dataset.images.shape[-2:]
        ways = channels.low_passes(shares, origin.module, height=height, width=width)
        ways += channels.colour_depths(depths, origin.module)
        ways += [
            channels.Channel(m.label, "network", nn.Identity(), m.module, m.card.effective_compression)
            for m in others
        ]
        folder = recovery.execute(
            source=origin, networks=others, channels=ways, kinds=kinds, strength=strength,
            dataset=loaded.dataset, seed=seed, arch=arch, device=loaded.device, batch_size=batch_size,
            out=place, on_start=partial(observer.begin, device=str(loaded.device)),
        )  # fmt: skip
    return Results([folder])
