"""Single Fourier attacks: one wave, the same in all channels, is added to the image (Tsuzuku & Sato 2019)."""

from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor, astensor_
from foolbox.attacks.base import FixedEpsilonAttack, get_criterion, raise_if_kwargs
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.distances import linf
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.problem import call
from blrobust.errors import UserError

T = TypeVar("T")


def wave_signs(height: int, width: int, *, row: int, column: int, device: torch.device) -> Tensor:
    """sign((1 + i) F_kl + (1 - i) F_-k,-l): plus and minus 1, float32 (height, width).

    F_kl(y, x) = exp(2 pi i (k y / height + l x / width)) with k = ``row``, l = ``column``, so the sum
    is 2 sqrt(2) cos(2 pi (k y / height + l x / width) + pi / 4), the real function of a conjugate pair
    (Tsuzuku & Sato 2019, section 4); -k, -l is another phase of the same wave. Phases are counted in
    whole steps, because on most grids the wave is zero at some pixels: rounding would choose their
    sign. Of two zeros half a period apart one counts as positive, so a wave stays balanced.
    """
    turn = 8 * height * width  # steps of a period; an eighth of it is pi / 4
    y = torch.arange(height, device=device)[:, None]
    x = torch.arange(width, device=device)[None, :]
    phase = 8 * (row * y * width + column * x * height) + turn // 8
    positive = (phase + turn // 4) % turn < turn // 2
    return torch.where(positive, 1.0, -1.0)


def _images(inputs: Tensor, model: Model, epsilon: float) -> Tensor:
    """``inputs`` as they are; raises ``ValueError`` outside the bounds or for a negative strength."""
    lower, upper = model.bounds
    if epsilon < 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}")
    if len(inputs) > 0 and not (lower <= inputs.min() and inputs.max() <= upper):
        raise ValueError(f"inputs must be within the bounds [{lower}, {upper}]")
    return inputs


class SingleFourierAttack(FixedEpsilonAttack):
    """x + epsilon sign(wave), clipped to the bounds: one wave for every image, the model unasked.

    ``row`` and ``column`` are the wave's periods down and across the image, negative ones another
    phase (`wave_signs`). Universal and shift-invariant (Tsuzuku & Sato 2019).
    """

    distance = linf

    def __init__(self, *, row: int = 8, column: int = 8) -> None:
        if (row, column) == (0, 0):
            raise ValueError("row and column are both 0: a constant is no wave")
        self.row = row
        self.column = column

    def __repr__(self) -> str:
        return call(self)

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Images (batch, C, H, W); raises ``ValueError`` for a frequency that they cannot hold."""
        raise_if_kwargs(kwargs)
        x, restore_type = astensor_(inputs)
        images = _images(x.raw, model, epsilon)
        height, width = images.shape[-2:]
        if abs(self.row) > height // 2 or abs(self.column) > width // 2:
            raise UserError(
                f"frequency ({self.row}, {self.column}): images of {height} x {width} hold "
                f"rows up to {height // 2} and columns up to {width // 2}, of either sign"
            )
        signs = wave_signs(height, width, row=self.row, column=self.column, device=images.device)
        return restore_type(astensor((images + epsilon * signs.to(images)).clamp(*model.bounds)))


class WorstFourierAttack(FixedEpsilonAttack):
    """The first wave of a grid of frequencies that is adversarial, for each image.

    Frequencies are the multiples of ``step`` in both directions, of either sign, without (0, 0):
    ``step=1`` is every wave there is, the set that Tsuzuku & Sato (2019) search. Asks the
    model at most ceil(H / step) ceil(W / step) times, the unperturbed image included; an image on
    which no wave works, or none is needed, comes back as it was.
    """

    distance = linf

    def __init__(self, *, step: int = 4) -> None:
        if step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        self.step = step

    def __repr__(self) -> str:
        return call(self)

    def run(self, model: Model, inputs: T, criterion: Any, *, epsilon: float, **kwargs: Any) -> T:
        """Images (batch, C, H, W); raises ``ValueError`` for another criterion than a class.

        And ``UserError`` where the images are too small for ``step``.
        """
        raise_if_kwargs(kwargs)
        x, restore_type = astensor_(inputs)
        images = _images(x.raw, model, epsilon)
        wanted = get_criterion(criterion)
        height, width = images.shape[-2:]
        frequencies = self._frequencies(height, width)
        if not frequencies:
            most = max(height, width) - 1
            raise UserError(
                f"step {self.step}: images of {height} x {width} have no frequency that is a multiple; "
                f"legal: 1 to {most}"
            )
        found = images.clone()
        with torch.no_grad():
            rows = torch.arange(len(images), device=images.device)
            done = _adversarial(wanted, model(images), rows)
            for tries, (row, column) in enumerate(frequencies):
                if should_check(tries, rows):
                    rows = (~done).nonzero()[:, 0]
                    if len(rows) == 0:
                        break
                signs = wave_signs(height, width, row=row, column=column, device=images.device)
                tried = (images[rows] + epsilon * signs.to(images)).clamp(*model.bounds)
                hit = _adversarial(wanted, model(tried), rows) & ~done[rows]
                found[rows] = torch.where(hit.view(-1, 1, 1, 1), tried, found[rows])
                done[rows] |= hit
        return restore_type(astensor(found))

    def _frequencies(self, height: int, width: int) -> list[tuple[int, int]]:
        """(row, column), low ones first; rows above height / 2 stand for negative ones."""
        grid = [(k, l_) for k in range(0, height, self.step) for l_ in range(0, width, self.step)]
        return sorted(grid, key=lambda f: max(min(f[0], height - f[0]), min(f[1], width - f[1])))[1:]


def _adversarial(criterion: Any, logits: Tensor, rows: Tensor) -> Tensor:
    """Which samples (m,), rows `rows` of the batch, are what the criterion wants?"""
    answers = logits.argmax(dim=1)
    if isinstance(criterion, Misclassification):
        fooled: Tensor = answers != criterion.labels.raw[rows]
        return fooled
    if isinstance(criterion, TargetedMisclassification):
        wanted: Tensor = answers == criterion.target_classes.raw[rows]
        return wanted
    raise ValueError(f"criterion {criterion!r}: legal are Misclassification and TargetedMisclassification")
