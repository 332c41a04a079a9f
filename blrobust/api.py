"""The Python interface: one function for each task; `import blrobust` exports them.

Images are pixels in [0, 1]. Functions print nothing. A mistake in an argument is a `UserError`, a
`ValueError` whose message is one line. Functions that run models or read data wait while another thread does.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd
import torch
from torch import nn

from blrobust.attacks.catalogue import grids, selection
from blrobust.attacks.catalogue.attack_spec import OURS, Preset
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.data.datasets import Dataset
from blrobust.data.given_images import Classes
from blrobust.device import resolve
from blrobust.errors import UserError, shown
from blrobust.evaluation import subjects, sweep
from blrobust.evaluation.arguments import MOST_SEED, check_choice, check_range, listed
from blrobust.evaluation.call_text import call_text
from blrobust.evaluation.measurement import measure, measuring
from blrobust.evaluation.noise_parts import NoiseKinds, noise_grids, noise_parts
from blrobust.evaluation.observer import Observer, observed
from blrobust.evaluation.one_at_a_time import LOCK
from blrobust.evaluation.subjects import Data, Given, with_modules
from blrobust.perturbations.noise_kinds import SPACES
from blrobust.perturbations.paper_bounds import SPACE as LEGACY
from blrobust.results import Results, joined
from blrobust.runs import RUNS, listing, stored_runs
from blrobust.runs.configuration import MOST_DRAWS
from blrobust.runs.record import Record
from blrobust.user_paths import StrPath, expanded, optional, output_folder

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack

Scalar = bool | int | float | str
Parameters = Mapping[str, Scalar] | Sequence[str]
Space = Literal["normalized", "pixel", "legacy"]
PRESETS = get_args(Preset)


def evaluate(
    models: Given,
    *,
    data: Data = None,
    noise: NoiseKinds | None = None,
    attacks: grids.Attacks | None = None,
    space: Space | None = None,
    parameters: Parameters = (),
    preset: Preset = "default",
    target: int | None = None,
    source: Given = None,
    save_adversarials: bool = False,
    classes: Classes = None,
    limit: int | None = None,
    draws: int = 1,
    seed: int = 0,
    arch: str = "resnet20",
    data_dir: StrPath | None = None,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    out: StrPath | None = None,
    progress: bool | Observer = False,
) -> Results:
    """Measure the accuracy of models under noise and attacks, level by level, and return the results.

    After an interruption, the same call resumes the run, and nothing is measured twice. At least one of
    `noise` and `attacks` is required.

    - `models`: a dictionary from labels to modules and names, a list of names, a single module or a single
      name. A module takes pixels float32 (m, C, H, W) and returns logits (m, classes). It is measured in
      evaluation mode; at the end its mode, device and gradient flags are restored. In place of a module, a
      function or another callable is legal, with the modules that it uses. `blrobust models` explains the
      names.
    - `data`: a pair of images (n, C, H, W), uint8 or float in [0, 1], and integer labels (n,), as tensors or
      arrays; a torch data set of such pairs; the result of `load_data`; or a name such as "cifar10" or
      "folder:photos". None is "cifar10", or its bundled sample if CIFAR-10 was not downloaded. `classes`, the
      names or the number of the classes, is needed if some class has no image. `limit` is the number of
      images to use, the first ones. `data_dir` is the folder of the data sets that `blrobust data get`
      downloads.
    - `noise`: a dictionary from "gaussian" and "uniform" to levels, as numbers or text ("0:2", "8/255"), or a
      list of these kinds. A value None in the dictionary means the default levels, and so does a list.
      Without `noise`, noise is not measured. `space` is the input space of the noise: "normalized" (in
      standard deviations of the data, not clipped), "pixel" (clipped to [0, 1]) or "legacy" (the published
      space, `docs/results.md`). Attacks are in pixels, or in the legacy space if `space` is "legacy".
    - `attacks`: a dictionary from names, patterns ("pgd*") and suites ("suite:quick") to strengths, in the
      notation of the levels, or a list of these. A value None in the dictionary means the default strengths,
      and so does a list. `parameters` are changes such as {"steps": 40, "pgd-linf.restarts": 5}.
      With `preset="paper"`, attacks search as long as in their publications. `target` is the class that
      targeted attacks aim at. `source`, for a transfer attack, is the model on which adversarial inputs are
      crafted; `models` then classify these inputs. `save_adversarials` stores the inputs of successful
      attacks in the run folder.
    - `draws` is the number of repetitions, each with other random numbers, and `seed` is the seed of all
      random numbers.
    - `arch` is the architecture of models that are given by name, `device` is one such as "auto", "cpu" or
      "cuda:1", and `batch_size` is the maximum number of images per forward pass.
    - `out` is the run folder, by default one in `runs`. Noise together with attacks makes two runs, in the
      folders `noise` and `attack` of `out`.
    - `progress`: whether a progress bar is shown on stderr.

    Raises `UserError` for an illegal argument and a model that fails. Raises `FailedPartsError` if a part of
    the measurement failed; its `folder` has the other results (`open_run`).
    """
    folder = None if out is None else output_folder(out, "out")
    given = {
        "data": data, "noise": noise, "attacks": attacks, "space": space, "parameters": parameters or None,
        "preset": preset, "target": target, "source": source, "classes": classes, "limit": limit,
        "draws": draws, "seed": seed, "arch": arch, "device": device, "batch_size": batch_size,
        "save_adversarials": save_adversarials or None, "out": None if out is None else os.fspath(out),
    }  # fmt: skip
    observer, call = observed(progress, call_text("evaluate", models, **given))
    models, source = with_modules(models), with_modules(source)
    with measuring(observer, models, source, call=call):
        check_range("draws", draws, 1, MOST_DRAWS)
        check_range("seed", seed, 0, MOST_SEED)
        check_range("batch_size", batch_size, 1, optional=True)
        check_range("target", target, 0, optional=True)
        check_choice("preset", preset, PRESETS)
        if space is not None:
            check_choice("space", space, SPACES)
        if noise is None and attacks is None:
            raise UserError("noise, attacks: got neither; legal: at least one of them")
        noises = {} if noise is None else noise_grids(noise, space)
        strengths = {} if attacks is None else grids.grids(attacks)
        grids.check(strengths, target=target, legacy=space == LEGACY)
        settings = selection.parameters(list(strengths), _changes(parameters), preset)
        loaded = subjects.load(
            models=models, arch=arch, data=data, data_dir=optional(data_dir, "data_dir"), limit=limit,
            device=device, classes=classes, note=observer.note,
        )  # fmt: skip
        images, place = loaded.dataset, loaded.device
        origin = None
        if source is not None:
            origin = subjects.load_one("source", source, arch=arch, dataset=images, device=place)
            subjects.check_distinct([*loaded.models, origin])
        parts: dict[str, list[sweep.Part]] = {}
        if noises:
            parts["noise"] = noise_parts(noises, space=space, dataset=images, seed=seed, device=place)
        if strengths:
            from blrobust.evaluation.attack_parts import attack_parts  # loads Foolbox

            parts["attack"] = attack_parts(
                strengths, settings, preset=preset, dataset=images, seed=seed, legacy=space == LEGACY,
                target=target, source=None if origin is None else origin.module,
            )  # fmt: skip
        folders = measure(
            parts, loaded, observer=observer, source=origin, target=target, draws=draws, seed=seed, arch=arch,
            save_adversarials=save_adversarials, batch_size=batch_size, out=folder,
        )  # fmt: skip
    return Results(folders)


def load_model(
    model: Given,
    *,
    data: Data = None,
    arch: str = "resnet20",
    data_dir: StrPath | None = None,
    device: str | torch.device = "auto",
) -> nn.Module:
    """Return the model of a name, such as "fp32" or "lowpass0.48+fp32", as blrobust measures it.

    The module takes pixels float32 (m, C, H, W) in [0, 1] and returns logits float32 (m, classes). `data` is
    that of `evaluate`; the weights that were trained on this data set are loaded. A module of your own is
    checked on the first images and wrapped. Raises `UserError` if the model fails, or if the model or the
    data does not exist.
    """
    resolved = resolve(device)
    with LOCK:
        images = subjects.load_images(data, data_dir=optional(data_dir, "data_dir"))
        given = with_modules(model)
        return subjects.load_one("model", given, arch=arch, dataset=images, device=resolved).module


def load_data(
    data: Data = None,
    *,
    limit: int | None = None,
    classes: Classes = None,
    split: Literal["test", "train"] = "test",
    data_dir: StrPath | None = None,
) -> Dataset:
    """Return images (n, C, H, W) and labels int64 (n,) with the names of the classes, for `evaluate`.

    `data`, `limit`, `classes` and `data_dir` are those of `evaluate`. The method `pixels(slice(0, 10))` of
    the result returns the first ten images as float32 in [0, 1]. The means and standard deviations that
    define the normalised space are those of all images, or of the first `limit` items of a torch data set.
    Raises `UserError` for data that does not exist or is not legal.
    """
    check_choice("split", split, ("test", "train"))
    with LOCK:
        return subjects.load_images(
            data, data_dir=optional(data_dir, "data_dir"), limit=limit, classes=classes, split=split
        )


def attack(name: str, *, preset: Preset = "default", seed: int = 0, **parameters: Scalar) -> "Attack":
    """Return an attack of the catalogue for use with Foolbox alone, such as `attack("pgd-linf", steps=40)`.

    The attack has Foolbox's interface: `attack(fmodel, inputs, labels, epsilons=[0.01])`. Unlike in
    `evaluate`, the inputs that it returns are not checked, and the parameters `restarts` and `eot` are not
    legal, because `evaluate` itself applies them. `seed` is the seed of attacks that make random numbers
    themselves; all others draw from torch's generator. Raises `UserError` for an unknown name, for a
    parameter that the attack does not have, and for an illegal value.
    """
    if not isinstance(name, str) or len(selection.kinds(name, name="attack")) != 1 or name not in ATTACKS:
        raise UserError(f"attack: got {shown(name)}; legal: the name of one attack")
    check_choice("preset", preset, PRESETS)
    check_range("seed", seed, 0, MOST_SEED)
    for own in OURS:
        if own in parameters:
            raise UserError(f"{own}: got {parameters[own]!r}; legal: this parameter in evaluate only")
    settings = selection.parameters([name], _changes(parameters), preset)[name]
    try:
        return ATTACKS[name].build(seed=seed, parameters=settings)
    except ValueError as error:
        raise UserError(f"attack {name!r}: {error}") from error


def open_run(run: StrPath) -> Results:
    """Return the results of a stored run of any command.

    `run` is the run folder, or the first characters (at least 4) of the name, id or hash of a run in the
    folder `runs`. Raises `UserError` if there is no such run or if its `run.json` is damaged.
    """
    folders = stored_runs.find(run)
    for folder in folders:
        Record.read(folder)
    return Results(folders)


def list_runs(folder: StrPath = RUNS) -> pd.DataFrame:
    """Return a row for each run of any command in `folder`, the latest run last (`runs.listing`).

    `open_run` opens a run by the value in the column `folder`. The row of a run that cannot be read has only
    its name, its folder and the `error`. Raises `UserError` if the folder does not exist or has no runs.
    """
    rows = listing.listing(expanded(folder, "folder"))
    return pd.DataFrame(rows, columns=list(listing.KEYS), dtype=object)


def compare(first: Results | StrPath, second: Results | StrPath, *more: Results | StrPath) -> Results:
    """Return the results of several runs of noise and attacks, for common tables and one report.

    The first column of every table is `run`, the name of the run folder. Raises `UserError` for a run that is
    given twice or that does not exist, and for heat maps and recoveries.
    """
    given = [run if isinstance(run, Results) else open_run(run) for run in (first, second, *more)]
    return joined(given)


def _changes(parameters: Parameters) -> list[str]:
    """Return the changes of parameters as texts such as "steps=40"."""
    if isinstance(parameters, Mapping):
        return [f"{name}={value}" for name, value in parameters.items()]
    if isinstance(parameters, str):
        return [parameters]
    return listed("parameters", parameters, str, legal='a dictionary such as {"steps": 40}, or texts')
