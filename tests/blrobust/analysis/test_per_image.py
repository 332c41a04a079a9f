"""The table of a run image by image, beside plain PyTorch."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import invented
from support.invented_frequencies import heatmap
from torch import nn

from blrobust.analysis.per_image import COLUMNS, per_image
from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.guard import Guard
from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.evaluation import sweep
from blrobust.models.card import ModelCard
from blrobust.models.model import Model
from blrobust.perturbations.noise import Noise
from blrobust.runs.run import Run

CPU = torch.device("cpu")
N = 230  # more than two blocks


@pytest.fixture(scope="module")
def subject() -> tuple[Model, Dataset]:
    source = torch.Generator().manual_seed(3)
    images = torch.rand(N, 3, 6, 6, generator=source)
    labels = torch.randint(0, 4, (N,), generator=source)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(108, 4)).eval().requires_grad_(False)
    data = Dataset("x", "test", images, labels, tuple("abcd"), (0.5,) * 3, (0.25,) * 3)
    return Model("linear", module, ModelCard("linear", "0" * 64)), data


def measure(path: Path, part: sweep.Part, command: str, subject: tuple[Model, Dataset], **further) -> Path:
    model, data = subject
    return sweep.execute(
        [part], command=command, models=[model], dataset=data, draws=2, seed=5, arch="resnet20", device=CPU,
        out=path, **further,
    )  # fmt: skip


def softmax64(module: nn.Module, pixels: torch.Tensor) -> np.ndarray:
    return module.double()(pixels.double()).softmax(1).numpy()


def test_noise_is_that_of_plain_pytorch(tmp_path: Path, subject: tuple[Model, Dataset]) -> None:
    model, data = subject
    noise = Noise("gaussian", space="pixel", dataset=data, seed=5, device=CPU)
    folder = measure(tmp_path / "run", sweep.Part(noise, (0.0, 0.3)), "noise", subject)
    with Run.open(folder) as run:
        table, summary = per_image(run), RunAnalysis(run).table
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * 2 * N
    for (level, draw), rows in table.groupby(["level", "draw"]):
        z = torch.cat([noise.perturb(data.images[[i]], level, draw, range(i, i + 1)) for i in range(N)])
        logits = model.module(z)
        chances = logits.double().softmax(1).numpy()
        assert rows.image.tolist() == list(range(N))
        assert rows.label.tolist() == data.labels.tolist()
        assert rows.prediction.tolist() == logits.argmax(1).tolist()
        assert rows.correct.tolist() == (logits.argmax(1) == data.labels).tolist()
        np.testing.assert_allclose(rows.probability_label, chances[range(N), data.labels], rtol=6e-4)
        np.testing.assert_allclose(rows.probability_prediction, chances.max(1), rtol=6e-4)
        others = logits.scatter(1, data.labels[:, None], -torch.inf).amax(1)
        margin = logits[range(N), data.labels] - others
        np.testing.assert_allclose(rows.margin, margin, rtol=1e-5, atol=1e-6)
    assert table.success.isna().all()
    assert table.distance.isna().all()
    accuracy = table.groupby("level").correct.mean()
    np.testing.assert_allclose(accuracy, summary.accuracy, rtol=1e-12)


def test_an_attack_has_the_classification_of_the_evaluated_input(
    tmp_path: Path, subject: tuple[Model, Dataset]
) -> None:
    model, data = subject
    for kind in ("fgsm", "deepfool-linf"):
        guard = Guard(kind, ATTACKS[kind], seed=5)
        parameters = {"parameters": ATTACKS[kind].budget()}
        folder = measure(
            tmp_path / kind, sweep.Part(guard, (0.0, 0.02, 0.2), parameters), "attack", subject,
            settings={"source": None, "target": None}, save_adversarials=True,
        )  # fmt: skip
        with Run.open(folder) as run:
            table = per_image(run)
            assert table.level_label.cat.categories.tolist() == ["0", "0.02", "51/255"]
        clean = model.module(data.images)
        right = clean.argmax(1) == data.labels
        for (level, _), rows in table.groupby(["level", "draw"]):
            untouched = (rows.distance == 0).to_numpy()
            assert untouched[~right.numpy()].all()
            chances = clean.softmax(1)[range(N), data.labels].numpy()
            np.testing.assert_allclose(rows.probability_label[untouched], chances[untouched], rtol=6e-4)
            assert (rows.distance <= level * 1.001).all()
            positive = (rows.margin > 0).to_numpy()
            assert (positive == rows.correct.to_numpy()).all()
            assert (rows.success.to_numpy(bool) <= ~rows.correct.to_numpy()).all()
        assert table[table.level == 0.2].success.any()
        assert table.queries.notna().all()


def test_cells_without_probabilities_have_missing_values(tmp_path: Path) -> None:
    folder = invented.run(tmp_path / "run", {"a": [0.9, 0.5], "b": [0.8, 0.4]}, [0.0, 0.5], n=7, cells=3)
    with Run.open(folder) as run:
        table = per_image(run)
    assert len(table) == 3 * 7
    assert table[["probability_label", "probability_prediction", "margin"]].isna().all(axis=None)
    assert table.kind.unique().tolist() == ["gaussian"]


def test_a_run_without_cells_is_an_empty_table(tmp_path: Path) -> None:
    folder = invented.run(tmp_path / "run", {"a": [0.9, 0.5]}, [0.0, 0.5], n=7, cells=0)
    with Run.open(folder) as run:
        table = per_image(run)
    assert (tuple(table.columns), len(table)) == (COLUMNS, 0)
    assert isinstance(table, pd.DataFrame)


def test_a_heat_map_is_refused(tmp_path: Path) -> None:
    folder = heatmap(tmp_path / "map")
    with Run.open(folder) as run, pytest.raises(UserError, match="legal: noise or attack"):
        per_image(run)
