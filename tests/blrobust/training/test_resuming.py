import os
import re
from dataclasses import replace

import pytest
import torch
from support.invented_training import CPU, RECIPE, bits, invented, rows, same, tiny, trainees

from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES, checkpoint
from blrobust.runs.held_file import HeldFile
from blrobust.training.training import train


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", tiny)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", tiny)
        recipe = replace(RECIPE, holdout=8)
        subjects = trainees(tmp_path_factory.mktemp("undisturbed"), recipe)
        train(subjects, invented(), CPU)
        return recipe, [bits(subject) for subject in subjects], [rows(subject) for subject in subjects]


def resumed_matches(folder, undisturbed):
    recipe, states, histories = undisturbed
    subjects = trainees(folder, recipe)
    torch.manual_seed(12345)
    train(subjects, invented(), CPU, resume=True)
    for subject, state, history in zip(subjects, states, histories, strict=True):
        assert rows(subject) == history
        assert same(bits(subject), state)


@pytest.mark.parametrize("write", range(1, 13))
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_write(tmp_path, monkeypatch, undisturbed, write, when):
    """Two models, two files, three epochs: twelve moments at which a file is put in place."""
    count = 0

    def replace_until_killed(source, target, *, really=os.replace, **folders):
        nonlocal count
        count += 1
        if count == write and when == "before":
            raise Killed
        really(source, target, **folders)
        if count == write:
            raise Killed

    recipe = undisturbed[0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until_killed)
        with pytest.raises(Killed):
            train(trainees(tmp_path, recipe), invented(), CPU)
    resumed_matches(tmp_path, undisturbed)


@pytest.mark.parametrize("step", [1, 4, 5, 9, 12])
def test_killed_inside_an_epoch_twice(tmp_path, undisturbed, step):
    recipe = undisturbed[0]

    def kill(done, total, subjects):
        if done == step:
            raise Killed

    for resume in (False, True):
        with pytest.raises(Killed):
            train(trainees(tmp_path, recipe), invented(), CPU, resume=resume, on_step=kill)
    resumed_matches(tmp_path, undisturbed)


def test_resuming_a_training_that_is_done_changes_nothing(tmp_path, undisturbed):
    recipe = undisturbed[0]
    train(trainees(tmp_path, recipe), invented(), CPU)
    steps = []
    subjects = trainees(tmp_path, recipe)
    train(subjects, invented(), CPU, resume=True, on_step=lambda *step: steps.append(step))
    assert not steps
    assert same(bits(subjects[0]), undisturbed[1][0])


@pytest.mark.parametrize(
    "change", [{"lr": 0.2}, {"seed": 5}, {"epochs": 9}, {"holdout": 3}, {"batch_size": 8}], ids=str
)
def test_resuming_with_other_options_is_refused(tmp_path, change):
    train(trainees(tmp_path), invented(), CPU)
    other = replace(RECIPE, **change)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError) as caught:
        train(trainees(tmp_path, other), invented(), CPU, resume=True)
    message = str(caught.value)
    assert "one.training.safetensors: got {" in message
    assert message.endswith("with which the training was begun, or another folder")
    assert "\n" not in message
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_damaged_state_is_one_line(tmp_path):
    subjects = trainees(tmp_path)
    train(subjects, invented(), CPU)
    subjects[0].state_path.write_bytes(subjects[0].state_path.read_bytes()[:900])
    with pytest.raises(UserError, match=r"one.training.safetensors is not a readable safetensors file"):
        train(trainees(tmp_path), invented(), CPU, resume=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {}, "is nothing, wanted"),
        (lambda state: state | {"more": torch.zeros(1)}, "more is (1,), wanted nothing"),
        (lambda state: state | {"epochs": torch.tensor(1.5)}, "epochs is (), wanted torch.int64 ()"),
        (lambda state: state | {"epochs": torch.zeros(2).long()}, "epochs is torch.int64 (2,), wanted"),
        (lambda state: state | {"momentum.0": torch.zeros(3)}, "momentum.0 is (3,), wanted ("),
        (lambda state: state | {"epochs": torch.tensor(-1)}, "got the state after -1 epochs"),
        (lambda state: state | {"epochs": torch.tensor(2**40)}, "got the state after 1099511627776 epochs"),
    ],
)
def test_a_state_that_does_not_fit_is_one_line(tmp_path, change, told):
    (subject,) = trainees(tmp_path, names=("one",))
    train([subject], invented(), CPU)
    checkpoint.save(subject.state_path, change(checkpoint.load(subject.state_path)[0]), subject.facts)
    (again,) = trainees(tmp_path, names=("one",))
    before = bits(again)
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        again.resume()
    assert "one.training.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(bits(again), before)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "got the state after 3 epochs, of which"),
        (b"epoch,lr,loss,holdout_accuracy,seconds\n1,0.1,1,,2\n", "has 1; legal: a row for each epoch"),
        (b"a,b\n1,2\n", "got a row"),
        (b"epoch,lr,loss,holdout_accuracy,seconds\n1,0.1\n", "got a row"),
        (b"epoch,lr,loss,holdout_accuracy,seconds\n1,0.1,1,,2,3\n", "got a row"),
        (b"\xff\xfe", "cannot be read as a history"),
        (b'"' + b"x" * 200_000, "cannot be read as a history"),
    ],
)
def test_a_damaged_history_is_one_line(tmp_path, content, told):
    (subject,) = trainees(tmp_path, names=("one",))
    train([subject], invented(), CPU)
    subject.history_path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        trainees(tmp_path, names=("one",))[0].resume()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="a folder cannot be moved while a file in it is open")
def test_a_training_whose_folder_was_moved_writes_nothing_to_the_one_in_its_place(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    subjects = trainees(folder)
    subjects[0].lock_path.touch()
    with subjects[0].lock_path.open():
        for subject in subjects:
            subject.check = HeldFile(subjects[0].lock_path).check
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        with pytest.raises(OSError, match="the folder was moved or replaced"):
            train(subjects, invented(), CPU)
    assert not list(folder.iterdir())
