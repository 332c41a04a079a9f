"""The CUDA graph of a step, beside the same steps on the CPU."""

from dataclasses import replace

import pytest
import torch
from support.invented_training import CPU, RECIPE, bits, invented, rows, same, tiny, trainees

from blrobust.models import ARCHITECTURES
from blrobust.training.training import train

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    "change",
    [{}, {"ema": 0.9, "label_smoothing": 0.1, "cutout": 2}, {"schedule": "plateau", "decayed": "all"}],
    ids=str,
)
def test_on_cuda_the_graph_takes_the_same_steps(tmp_path, monkeypatch, change):
    monkeypatch.setitem(ARCHITECTURES, "tiny", tiny)
    cuda, test = torch.device("cuda"), invented(90, split="test")
    recipes = [replace(RECIPE, epochs=2, seed=seed, **change) for seed in (4, 5)]

    def trained(device):
        subjects = [
            subject
            for recipe in recipes
            for subject in trainees(tmp_path / device.type / str(recipe.seed), recipe, device=device)
        ]
        train(subjects, invented(), device, test=test)
        return subjects

    for ours, theirs in zip(trained(cuda), trained(CPU), strict=True):
        for a, b in zip(rows(ours), rows(theirs), strict=True):
            assert a["lr"] == b["lr"]
            assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=2e-2)
            assert float(a["train_accuracy"]) == pytest.approx(float(b["train_accuracy"]), abs=0.05)
        folder = tmp_path / "cuda" / str(ours.recipe.seed)
        (again,) = trainees(folder, ours.recipe, [ours.name], device=cuda)
        assert again.resume() == 2
        assert same(bits(again), bits(ours))
        assert ours.finish(test, cuda).test_accuracy is not None
