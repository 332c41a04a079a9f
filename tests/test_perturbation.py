import pytest
import torch
from torch import nn

from blrobust.errors import UserError
from blrobust.perturbation import block_size, blocks, predict


@pytest.mark.parametrize("n", [1, 2, 99, 100, 101, 199, 200, 250, 1000])
@pytest.mark.parametrize("size", [100, 1000])
def test_blocks_are_of_one_size_and_cover_each_sample_once(n, size):
    kept = []
    for samples, skip in blocks(n, size):
        assert len(samples) == min(size, n)
        assert samples.stop <= n
        kept += samples[skip:]
    assert kept == list(range(n))


@pytest.mark.parametrize(
    ("device", "shape", "size"),
    [
        ("cpu", (3, 32, 32), 100),
        ("cpu", (3, 224, 224), 100),
        ("cuda", (1, 1, 8), 5000),
        ("cuda", (3, 32, 32), 5000),
        ("cuda", (3, 64, 64), 1250),
        ("cuda", (3, 224, 224), 102),
    ],
)
def test_a_gpu_takes_larger_blocks_of_small_images(device, shape, size):
    assert block_size(shape, torch.device(device)) == size


def test_the_prediction_is_the_largest_logit():
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    classes = predict(nn.Identity(), logits)
    assert classes.dtype == torch.int16
    assert classes.tolist() == [1, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_logit_that_is_not_finite_is_never_right(bad):
    logits = torch.tensor([[bad, 0.0], [1.0, 0.0], [0.0, bad]])
    assert predict(nn.Identity(), logits).tolist() == [-1, 0, -1]


@pytest.mark.parametrize("shape", [(3,), (3, 2, 1), (4, 2)])
def test_logits_of_another_shape_are_one_line(shape):
    class Wrong(nn.Module):
        def forward(self, pixels):
            return torch.zeros(shape)

    with pytest.raises(UserError, match="legal: "):
        predict(Wrong(), torch.zeros(3, 2))
