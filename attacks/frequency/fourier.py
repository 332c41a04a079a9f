"""Single Fourier attacks: they add one wave, the same in all channels, to the image (Tsuzuku & Sato 2019)."""

import torch
from foolbox.distances import linf
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack, Transform
from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.level_checks import check_not_negative
from blrobust.attacks.building_blocks.parameters import check_counts
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.errors import UserError


def wave_signs(height: int, width: int, *, row: int, column: int, device: torch.device) -> Tensor:
    """Return the signs of a wave of one frequency, 1 or -1, float32 (height, width).

    The wave is (1 + i) * F_{k,l} + (1 - i) * F_{-k,-l} with k = `row`, l = `column` and F_{k,l}(y, x) = exp(2
    * pi * i * (k * y / height + l * x / width)). This sum is real: 2 * sqrt(2) * cos(2 * pi * (k * y / height
    + l * x / width) + pi / 4) (Tsuzuku & Sato 2019, section 4). The frequency (-k, -l) gives the same wave
    with another phase.

    On most grids the wave is zero at some pixels, and rounding errors would decide their signs. So the phase
    is computed in integers. Of two zeros that are half a period apart, one counts as positive and one as
    negative, so that 1 and -1 are equally frequent.
    """
    turn = 8 * height * width  # steps of a period; an eighth of it is pi / 4
    y = torch.arange(height, device=device)[:, None]
    x = torch.arange(width, device=device)[None, :]
    phase = 8 * (row * y * width + column * x * height) + turn // 8
    positive = (phase + turn // 4) % turn < turn // 2
    return torch.where(positive, 1.0, -1.0)


class SingleFourierAttack(Transform):
    """Adds epsilon * the signs of one wave to every image and clips to the bounds, without a query.

    `row` and `column` are the numbers of periods down and across the image. With both negated, the wave has
    another phase (see `wave_signs`). The attack is universal and shift-invariant (Tsuzuku & Sato 2019).
    Raises `ValueError` if both are 0. `run` raises `UserError` for a negative `epsilon`, and for a frequency
    that images of this size do not have.
    """

    distance = linf

    def __init__(self, *, row: int = 8, column: int = 8) -> None:
        if (row, column) == (0, 0):
            raise ValueError("got row=0, column=0; legal: not both 0, which is a constant, not a wave")
        self.row = row
        self.column = column

    def _transform(self, images: Tensor, epsilon: float, bounds: tuple[float, float]) -> Tensor:
        check_not_negative(epsilon, images.shape[1:])
        height, width = images.shape[-2:]
        if abs(self.row) > height // 2 or abs(self.column) > width // 2:
            raise UserError(
                f"got row={self.row}, column={self.column}; legal for images of {height} x {width}: rows up "
                f"to {height // 2} and columns up to {width // 2}, of either sign"
            )
        signs = wave_signs(height, width, row=self.row, column=self.column, device=images.device)
        return (images + epsilon * signs.to(images)).clamp(*bounds)


class WorstFourierAttack(EpsilonAttack):
    """Tries waves, low frequencies first, and adds to each image the first wave that fools the model.

    A wave is epsilon times the signs of one frequency. The frequencies are (k, l) with k = 0, `step`, 2 *
    `step`, ... below H and l likewise below W, without (0, 0); k above H / 2 is the negative frequency k - H,
    and l above W / 2 is l - W. `step=1` gives all waves, the set that Tsuzuku & Sato (2019) search. An image
    needs at most ceil(H / `step`) * ceil(W / `step`) queries, including that of the unperturbed image. An
    image is returned unchanged if it already fools the model, or if no wave does. Raises `ValueError` for a
    parameter that is not legal. `run` raises `UserError` for a negative `epsilon`, and for images that are
    too small for `step`.
    """

    distance = linf

    def __init__(self, *, step: int = 4) -> None:
        check_counts(step=step)
        self.step = step

    @torch.no_grad()
    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        images = problem.images
        check_not_negative(epsilon, images.shape[1:])
        height, width = images.shape[-2:]
        frequencies = self._frequencies(height, width)
        if not frequencies:
            raise UserError(
                f"got step={self.step}; legal for images of {height} x {width}: 1 to {max(height, width) - 1}"
            )
        found = images.clone()
        rows = torch.arange(len(images), device=images.device)
        done = problem.fooled(problem.logits(images))
        for tries, (row, column) in enumerate(frequencies):
            if should_check(tries, rows):
                rows = (~done).nonzero()[:, 0]
                if len(rows) == 0:
                    break
            signs = wave_signs(height, width, row=row, column=column, device=images.device)
            tried = problem.clip(images[rows] + epsilon * signs.to(images))
            hit = problem.fooled(problem.logits(tried), rows) & ~done[rows]
            found[rows] = torch.where(hit.view(-1, 1, 1, 1), tried, found[rows])
            done[rows] |= hit
        return found

    def _frequencies(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the pairs (row, column) of the grid, low frequencies first.

        A row above height / 2 stands for the negative frequency row - height; the same holds for columns.
        """
        grid = [(k, l_) for k in range(0, height, self.step) for l_ in range(0, width, self.step)]
        return sorted(grid, key=lambda f: max(min(f[0], height - f[0]), min(f[1], width - f[1])))[1:]
