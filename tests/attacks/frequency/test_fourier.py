"""The single Fourier attacks against the paper's formula, evaluated in complex numbers."""

import foolbox
import numpy as np
import pytest
import torch
from foolbox.criteria import Misclassification, TargetedMisclassification
from torch import Tensor, nn

from blrobust.attacks.frequency.fourier import SingleFourierAttack, WorstFourierAttack, wave_signs
from blrobust.errors import UserError

CPU = torch.device("cpu")


class Detector(nn.Module):
    """Class 1 where the product with a pattern exceeds a threshold, else class 0; counts its images."""

    def __init__(self, pattern: Tensor, threshold: float) -> None:
        super().__init__()
        self.pattern = pattern
        self.threshold = threshold
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        score = (x * self.pattern).sum((1, 2, 3)) - self.threshold
        return torch.stack([torch.zeros_like(score), score], dim=1)


def wrap(module: nn.Module, bounds: tuple[float, float] = (0.0, 1.0)) -> foolbox.PyTorchModel:
    return foolbox.PyTorchModel(module.eval(), bounds=bounds, device=CPU)


def grey(batch: int, height: int = 8, width: int = 8) -> Tensor:
    return torch.full((batch, 3, height, width), 0.5)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (7, 9), (6, 10)])
def test_signs_are_those_of_the_papers_sum(height: int, width: int) -> None:
    y, x = np.mgrid[:height, :width]
    for k in range(-(height // 2), height // 2 + 1):
        for column in range(-(width // 2), width // 2 + 1):
            wave = np.exp(2j * np.pi * (k * y / height + column * x / width))
            total = (1 + 1j) * wave + (1 - 1j) * wave.conj()  # F of -k, -l is the conjugate
            assert np.abs(total.imag).max() < 1e-9
            sure = np.abs(total.real) > 1e-9
            signs = wave_signs(height, width, row=k, column=column, device=CPU).numpy()
            assert set(np.unique(signs)) <= {-1.0, 1.0}
            np.testing.assert_array_equal(signs[sure], np.sign(total.real)[sure])


def test_waves_of_even_period_are_balanced() -> None:
    for k, column in [(1, 0), (0, 4), (8, 8), (-3, 5), (16, 16)]:
        assert wave_signs(32, 32, row=k, column=column, device=CPU).sum() == 0


def test_single_adds_epsilon_times_the_signs_in_all_channels() -> None:
    attack = SingleFourierAttack(row=1, column=-2)
    module = Detector(torch.zeros(3, 8, 8), 0.0)
    labels = torch.zeros(2, dtype=torch.int64)
    found = attack.run(wrap(module), grey(2), Misclassification(labels), epsilon=0.25)
    signs = wave_signs(8, 8, row=1, column=-2, device=CPU)
    assert torch.equal(found, grey(2) + 0.25 * signs)
    assert module.asked == 0
    clipped = attack.run(wrap(module), grey(2), Misclassification(labels), epsilon=0.75)
    assert torch.equal(clipped, (signs + 1).div(2).expand(2, 3, 8, 8))


def test_worst_finds_the_one_wave_that_fools() -> None:
    signs = wave_signs(8, 8, row=2, column=4, device=CPU)
    pattern = signs.expand(3, 8, 8)
    # Only the wave itself reaches the product 192 epsilon; the threshold lies just below.
    module = Detector(pattern, 192 * 0.1 - 0.01)
    labels = torch.zeros(3, dtype=torch.int64)
    attack = WorstFourierAttack(step=2)
    found = attack.run(wrap(module), grey(3), Misclassification(labels), epsilon=0.1)
    assert torch.allclose(found, grey(3) + 0.1 * signs)
    assert module.asked <= 3 * 16
    weaker = attack.run(wrap(module), grey(3), Misclassification(labels), epsilon=0.09)
    assert torch.equal(weaker, grey(3))
    # (2, 4) is no multiple of 4
    missed = WorstFourierAttack(step=4).run(wrap(module), grey(3), Misclassification(labels), epsilon=0.1)
    assert torch.equal(missed, grey(3))


def test_worst_tries_every_wave_of_its_grid_at_most_once() -> None:
    module = Detector(torch.zeros(3, 8, 8), 1.0)
    WorstFourierAttack(step=1).run(
        wrap(module), grey(2), Misclassification(torch.zeros(2, dtype=torch.int64)), epsilon=0.1
    )
    assert module.asked == 2 * 64  # 63 waves and the image itself


def test_what_is_wrong_already_stays_and_a_batch_is_its_samples() -> None:
    source = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 8, 8, generator=source)
    pattern = torch.randn(3, 8, 8, generator=source)
    module = Detector(pattern, float((images * pattern).sum((1, 2, 3)).median()) + 0.01)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    attack = WorstFourierAttack(step=2)
    whole = attack.run(wrap(module), images, Misclassification(labels), epsilon=0.3)
    wrong = module(images).argmax(1) != labels
    assert wrong.any()
    assert torch.equal(whole[wrong], images[wrong])
    assert (module(whole).argmax(1) != labels).sum() > wrong.sum()
    assert (whole - images).abs().max() <= 0.3 + 1e-6
    for i in range(6):
        alone = attack.run(wrap(module), images[i : i + 1], Misclassification(labels[i : i + 1]), epsilon=0.3)
        assert torch.equal(alone[0], whole[i])


def test_worst_can_be_targeted() -> None:
    signs = wave_signs(8, 8, row=2, column=4, device=CPU)
    module = Detector(signs.expand(3, 8, 8), 192 * 0.1 - 0.01)
    criterion = TargetedMisclassification(torch.ones(2, dtype=torch.int64))
    found = WorstFourierAttack(step=2).run(wrap(module), grey(2), criterion, epsilon=0.1)
    assert (module(found).argmax(1) == 1).all()


@pytest.mark.parametrize("attack", [SingleFourierAttack(row=1, column=1), WorstFourierAttack()])
def test_what_is_illegal_is_said(attack: SingleFourierAttack | WorstFourierAttack) -> None:
    model = wrap(Detector(torch.zeros(3, 8, 8), 1.0))
    criterion = Misclassification(torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="bounds"):
        attack.run(model, grey(1) + 1, criterion, epsilon=0.1)
    with pytest.raises(ValueError, match=r"got strength -0\.1; legal"):
        attack.run(model, grey(1), criterion, epsilon=-0.1)
    with pytest.raises(TypeError, match="nonsense"):
        attack.run(model, grey(1), criterion, epsilon=0.1, nonsense=1)


def test_parameters_are_checked_and_shown() -> None:
    assert repr(SingleFourierAttack(row=3, column=-1)) == "SingleFourierAttack(row=3, column=-1)"
    assert repr(WorstFourierAttack(step=2)) == "WorstFourierAttack(step=2)"
    with pytest.raises(ValueError, match="constant"):
        SingleFourierAttack(row=0, column=0)
    with pytest.raises(ValueError, match="step"):
        WorstFourierAttack(step=0)
    criterion = Misclassification(torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="row=5, column=1; legal"):
        SingleFourierAttack(row=5, column=1).run(
            wrap(Detector(torch.zeros(3, 8, 8), 1.0)), grey(1), criterion, epsilon=0.1
        )


def test_a_step_without_a_frequency_is_one_line() -> None:
    module = Detector(torch.zeros(1, 8, 8), 1.0)
    with pytest.raises(UserError, match="got step=8; legal for images of 8 x 8: 1 to 7"):
        WorstFourierAttack(step=8).run(
            wrap(module), torch.full((2, 1, 8, 8), 0.5), Misclassification(torch.zeros(2).long()), epsilon=0.1
        )
    assert module.asked == 0
