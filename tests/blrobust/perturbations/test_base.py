import types

import pytest
import torch
from torch import nn

from blrobust.errors import UserError
from blrobust.perturbations.base import block_size, blocks, predict


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
    ("gigabytes", "shape", "size"),
    [
        (0, (3, 32, 32), 100),
        (0, (3, 224, 224), 100),
        (80, (1, 1, 8), 5000),
        (80, (3, 32, 32), 5000),
        (80, (3, 64, 64), 1200),
        (80, (3, 224, 224), 100),
        (24, (3, 32, 32), 1500),
        (8, (3, 32, 32), 500),
        (1, (3, 32, 32), 100),
    ],
)
def test_a_gpu_takes_larger_blocks_of_small_images(gigabytes, shape, size, monkeypatch):
    properties = types.SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert block_size(shape, torch.device("cuda" if gigabytes else "cpu")) == size


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
