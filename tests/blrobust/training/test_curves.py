import math
from dataclasses import replace

import pytest
import torch
from support.invented_training import CPU, RECIPE, bits, invented, rows, same, tiny, trainees

from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES
from blrobust.models.accuracy import accuracy
from blrobust.training import curves
from blrobust.training.batches import epoch_batches
from blrobust.training.history import COLUMNS
from blrobust.training.training import train


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", tiny)


def test_the_history_has_the_accuracies_of_every_epoch(tmp_path):
    recipe = replace(RECIPE, holdout=8, ema=0.9)
    test = invented(90, split="test")
    (subject,) = trainees(tmp_path, recipe, ["one"])
    train([subject], invented(), CPU, test=test)
    found = curves.read(subject.history_path)
    assert list(found) == COLUMNS == [*rows(subject)[0], "seconds"]
    assert found["epoch"].tolist() == [1, 2, 3]
    last = accuracy(subject.stored_model(), test, CPU)
    assert found["test_accuracy"].iloc[-1] == pytest.approx(last, abs=1e-4)
    assert found.drop(columns="epoch").dtypes.eq(float).all()
    assert not found.isna().any(axis=None)


def test_measuring_changes_no_bit(tmp_path):
    measured, plain = trainees(tmp_path / "a"), trainees(tmp_path / "b")
    train(measured, invented(), CPU, test=invented(90, split="test"))
    train(plain, invented(), CPU)
    for ours, theirs in zip(measured, plain, strict=True):
        assert same(bits(ours), bits(theirs))
        assert curves.read(theirs.history_path)["test_accuracy"].isna().all()


def test_the_training_accuracy_counts_the_images_of_the_steps(tmp_path):
    """With a learning rate of nearly 0 and the batch as large as the data, all steps see one network."""
    recipe = replace(RECIPE, epochs=1, batch_size=72, crop=0, lr=1e-12)
    (subject,) = trainees(tmp_path, recipe, ["one"])
    torch.manual_seed(recipe.seed)
    model = subject.facts.build().train()
    data = invented()
    order, images = epoch_batches(data.images, recipe, 0)
    hits = (model(images.float() / 255).argmax(1) == data.labels[order]).float().mean()
    train([subject], data, CPU)
    assert float(subject.history[0]["train_accuracy"]) == pytest.approx(float(hits), abs=1e-4)


def test_an_old_history_is_read(tmp_path):
    path = tmp_path / "old.history.csv"
    path.write_text("epoch,lr,loss,holdout_accuracy,seconds\n1,0.1,2.5,,3\n2,0.2,2,0.5,4\n")
    found = curves.read(path)
    assert list(found) == COLUMNS
    assert found["loss"].tolist() == [2.5, 2.0]
    assert found["test_accuracy"].isna().all()
    assert math.isnan(found["holdout_accuracy"][0])
    assert found["holdout_accuracy"][1] == 0.5


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "epoch,lr,loss,holdout_accuracy,seconds\none,0.1,1,,2\n", "epoch,lr\n1,2\n"]
)
def test_other_files_are_one_line(tmp_path, text):
    path = tmp_path / "x.history.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        curves.read(path)
    assert "x.history.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
