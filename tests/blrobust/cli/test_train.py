import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.kills import WHOLE
from support.processes import importing
from torch import nn

from blrobust.cli import main
from blrobust.data import datasets
from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES, checkpoint, zoo

STATISTICS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
TINY = ["--arch", "tiny", "--epochs", "3", "--batch-size", "16", "--device", "cpu"]


def tiny(*, classes, channels):
    features = [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(4, classes))


def load(name="cifar10", *, split="test", data_dir=None):
    """Ten classes of eight pixels square: the class is the brightness."""
    if name not in ("cifar10", "svhn"):
        raise UserError(f"{name} has no {split} images")
    source = torch.Generator().manual_seed({"test": 1, "train": 2}[split])
    n = {"test": 40, "train": 80}[split]
    labels = torch.arange(n) % 10
    images = torch.randint(0, 25, (n, 3, 8, 8), generator=source) + 22 * labels[:, None, None, None]
    return Dataset(name, split, images.byte(), labels, tuple("abcdefghij"), **STATISTICS)


def replace_the_rest(patch):
    patch.setitem(ARCHITECTURES, "tiny", tiny)
    patch.setattr(datasets, "load", load)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Tiny networks and images, an own weights folder, and torch's global settings put back."""
    replace_the_rest(monkeypatch)
    folder = tmp_path / "own"
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(folder))
    monkeypatch.chdir(tmp_path)
    settings = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    yield folder
    torch.set_float32_matmul_precision(settings[0])
    torch.backends.cudnn.benchmark = settings[1]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["train", *arguments])
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_from_the_command_to_a_model_by_name(capsys, own):
    code, out, err = run(capsys, "fft33", *TINY)
    assert code == 0
    path = own / "cifar10-tiny-fft33.safetensors"
    facts = checkpoint.load(path)[1]
    assert out == f"{path}: {facts.test_accuracy:.2%} of 40 test images\n"
    assert "100 %: epoch 2" in err
    stem = path.with_suffix("").name
    assert {file.name for file in own.iterdir()} == {path.name, f"{stem}.history.csv", f"{stem}.lock"}
    assert (facts.compression, facts.recipe["epochs"], facts.recipe["batch_size"]) == (0.33, 3, 16)
    model = zoo.load("fft33", arch="tiny", dataset=load(), device=torch.device("cpu"))
    assert model.card.checkpoint == str(path)
    assert model.card.nominal_compression == 0.33


def test_scripts_read_one_document_or_the_folder(capsys, own):
    code, out, err = run(capsys, "fft33,fp32", *TINY, "--json")
    found = {each["name"]: each for each in json.loads(out)}
    assert (code, list(found)) == (0, ["fft33", "fp32"])
    assert "100 %: epoch 2" in err
    path = own / "cifar10-tiny-fft33.safetensors"
    accuracy = checkpoint.load(path)[1].test_accuracy
    assert found["fft33"] == {"name": "fft33", "path": str(path), "accuracy": accuracy, "n": 40}
    assert run(capsys, "fp32-noise", *TINY, "-q") == (0, f"{own}\n", "")
    code, out, err = run(capsys, "fp32", *TINY, "--json")
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_several_side_by_side_into_a_folder(capsys, tmp_path):
    code, out, _ = run(capsys, "fp32,bf16-fft50-compact", *TINY, "--out", "deep/er", "--dataset", "svhn")
    assert code == 0
    assert len(out.splitlines()) == 2
    facts = checkpoint.load(tmp_path / "deep/er/svhn-tiny-bf16-fft50-compact.safetensors")[1]
    assert (facts.precision, facts.compression, facts.fft_size) == ("bf16", 0.48, "compact")
    assert (tmp_path / "deep/er/svhn-tiny-fp32.safetensors").exists()


def test_options_reach_the_recipe(capsys, own):
    options = "--lr 0.05 --weight-decay 0.001 --seed 9 --holdout 16"
    assert run(capsys, "fp32", *TINY, *options.split())[0] == 0
    facts = checkpoint.load(own / "cifar10-tiny-fp32.safetensors")[1]
    recipe = facts.recipe
    assert (recipe["lr"], recipe["weight_decay"], recipe["holdout"]) == (0.05, 0.001, 16)
    assert (facts.seed, recipe["seed"]) == (9, 9)
    assert facts.holdout_accuracy is not None


def test_controls_have_recipes_of_their_own(capsys, own):
    assert run(capsys, "fp32-noise,fp32", *TINY)[0] == 0
    found = [checkpoint.load(own / f"cifar10-tiny-{name}.safetensors")[1] for name in ("fp32-noise", "fp32")]
    assert [facts.recipe["noise"] for facts in found] == [1.0, 0.0]
    assert run(capsys, "fp32-early", "--arch", "tiny", "--batch-size", "16", "--device", "cpu")[0] == 0
    assert checkpoint.load(own / "cifar10-tiny-fp32-early.safetensors")[1].recipe["epochs"] == 5


def state_in(folder, capsys, monkeypatch, *arguments):
    """Leave a training that was stopped after its first epoch."""
    from blrobust.training import training

    def stop(*arguments, really=training.epoch_batches):
        if arguments[2] == 1:
            raise KeyboardInterrupt
        return really(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "epoch_batches", stop)
        return run(capsys, *arguments)


def test_interrupted_and_resumed(capsys, own, monkeypatch):
    code, _, err = state_in(own, capsys, monkeypatch, "fp32", *TINY)
    assert code == 130
    told = "Interrupted. The same command with --resume continues after the last complete epoch."
    assert err.splitlines()[-1] == told
    state = own / "cifar10-tiny-fp32.training.safetensors"
    before = state.read_bytes()

    code, _, err = run(capsys, "fp32", *TINY)
    told = f"Error: --out: got a folder with a stopped training, {state}; legal: give --resume, or remove"
    assert (code, err) == (2, f"{told} this file\n")
    for change in (["--lr", "0.3"], ["--seed", "1"], ["--holdout", "8"], ["--epochs", "4"]):
        code, _, err = run(capsys, "fp32", *TINY, *change, "--resume")
        assert code == 2
        (line,) = err.splitlines()
        assert line.startswith(f"Error: {state}: got {{")
    assert state.read_bytes() == before

    assert run(capsys, "fp32", *TINY, "--resume")[0] == 0
    assert run(capsys, "fp32", *TINY, "--out", "whole")[0] == 0
    resumed = checkpoint.load(own / "cifar10-tiny-fp32.safetensors")
    whole = checkpoint.load(Path("whole/cifar10-tiny-fp32.safetensors"))
    assert resumed[1] == whole[1]
    assert all(torch.equal(resumed[0][name], whole[0][name]) for name in whole[0])


def test_resume_where_nothing_was_finished_begins(capsys, own):
    assert run(capsys, "fp32", *TINY, "--resume")[0] == 0
    assert (own / "cifar10-tiny-fp32.safetensors").exists()


def test_finished_weights_are_not_overwritten(capsys, own):
    run(capsys, "fp32", *TINY)
    path = own / "cifar10-tiny-fp32.safetensors"
    before = path.read_bytes()
    for resume in ([], ["--resume"]):
        code, _, err = run(capsys, "fp32", *TINY, "--seed", "5", *resume)
        told = f"Error: --out: got a folder with {path}; legal: a folder without this file\n"
        assert (code, err) == (2, told)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("fp64", "unknown model 'fp64'; legal are"),
        ("fp32,fp32", "'fp32' is given twice"),
        ("fp32,", "empty name"),
        ("mine=a.safetensors", "unknown model 'mine=a.safetensors'"),
        ("fp32 --arch vgg", "unknown architecture 'vgg'; choose resnet20, resnet18, tiny"),
        ("fp32 --dataset cifar10-sample", "cifar10-sample has no train images"),
        ("fp32 --device tpu", "--device: got 'tpu'; legal: auto"),
        ("fp32 --epochs 0", "--epochs"),
        ("fp32 --batch-size -1", "--batch-size"),
        ("fp32 --batch-size 81", "--batch-size: got 81; legal: 1 to 80, the number of training images"),
        ("fp32 --lr 0", "--lr"),
        ("fp32 --lr nan", "--lr"),
        ("fp32 --lr inf", "--lr"),
        ("fp32 --lr fast", "--lr"),
        ("fp32 --lr 1e30", "diverged in epoch"),
        ("fp32 --weight-decay -1", "--weight-decay"),
        ("fp32 --seed -1", "--seed"),
        ("fp32 --holdout 80", "--holdout: got 80; legal: numbers below 80, that of all training images"),
        ("fp32 --noise -1", "--noise"),
        ("fp32-narrow", "got fp32-narrow for tiny; legal: resnet20"),
        ("fp32 --out file/below", "file"),
        ("", "MODEL"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, arguments, told):
    (tmp_path / "file").write_text("in the way")
    code, out, err = run(capsys, *TINY, *arguments.split())
    assert (code, out) == (2, "")
    errors = [line for line in err.splitlines() if "%:" not in line]
    assert len(errors) == 1
    assert errors[0].startswith("Error: ")
    assert told in errors[0]


def test_a_disk_that_is_full(capsys, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "weights")

    monkeypatch.setattr("blrobust.atomic_write.write_bytes", full)
    code, _, err = run(capsys, "fp32", *TINY)
    assert code == 2
    assert err.splitlines()[-1] == "Error: weights: No space left on device"


SLOW = """
import sys, time
import pytest, test_train
from blrobust import cli
from blrobust.training import training
with pytest.MonkeyPatch.context() as patch:
    test_train.replace_the_rest(patch)
    def slow(*arguments, really=training.epoch_batches):
        time.sleep({delay})
        return really(*arguments)
    patch.setattr(training, "epoch_batches", slow)
    cli.main(["train", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_ctrl_c_in_a_process_of_its_own(capsys, tmp_path):
    """SIGINT in the middle, then --resume: the same bits as a training without it."""
    script = SLOW.format(delay=0.3)
    options = ["fp32,fft50", *TINY, "--epochs", "6"]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *options, "--out", str(tmp_path / "stopped")],
        env=importing(__file__),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    state = tmp_path / "stopped" / "cifar10-tiny-fft50.training.safetensors"
    deadline = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    told = "Interrupted. The same command with --resume continues after the last complete epoch."
    assert err.splitlines()[-1] == told
    assert "Traceback" not in err
    assert run(capsys, *options, "--out", "stopped", "--resume")[0] == 0
    assert run(capsys, *options, "--out", "whole")[0] == 0
    for name in ("fp32", "fft50"):
        resumed, facts = checkpoint.load(tmp_path / f"stopped/cifar10-tiny-{name}.safetensors")
        whole, same_facts = checkpoint.load(tmp_path / f"whole/cifar10-tiny-{name}.safetensors")
        assert facts == same_facts
        assert all(torch.equal(resumed[key], whole[key]) for key in whole)


KILLER = """
import sys
from pathlib import Path
import pytest, test_train
from support.kills import kill_at_every_step
from blrobust.cli import train
from blrobust.training import training
with pytest.MonkeyPatch.context() as patch:
    test_train.replace_the_rest(patch)
    kill_at_every_step(Path(sys.argv[1]), ["train", *sys.argv[2:]], ["--resume"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
@pytest.mark.parametrize("models", ["fp32", "fp32,fft50"])
def test_a_kill_at_every_step_changes_no_bit(tmp_path, models):
    """Folder, locks, histories, states, checkpoints, and the removal of the states."""
    command = [sys.executable, "-c", KILLER, str(tmp_path / "runs"), models, *TINY, "--epochs", "2"]
    subprocess.run(command, env=importing(__file__), check=True, stdout=subprocess.DEVNULL)
    whole = trained(tmp_path / "runs" / WHOLE)
    killed = [folder for folder in (tmp_path / "runs").iterdir() if folder.name != WHOLE]
    assert len(killed) >= 18 * len(whole[1])
    for folder in killed:
        weights, facts, names = trained(folder)
        assert (facts, names) == whole[1:], folder.name
        for name, tensors in weights.items():
            assert tensors.keys() == whole[0][name].keys()
            assert all(torch.equal(tensors[key], whole[0][name][key]) for key in tensors)


def trained(folder):
    """The weights and the facts of all checkpoints in a folder, by name, and the names of all files."""
    found = {path.name: checkpoint.load(path) for path in folder.glob("*.safetensors")}
    names = {path.name for path in folder.iterdir()}
    return {k: v[0] for k, v in found.items()}, {k: v[1] for k, v in found.items()}, names


@pytest.mark.skipif(sys.platform == "win32", reason="locks as POSIX has them")
def test_a_second_seed_is_refused_while_the_first_is_trained_and_afterwards(capsys, own, tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(delay=2), "fp32", *TINY, "--out", str(own)],
        env=importing(__file__),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    path = own / "cifar10-tiny-fp32.safetensors"
    state = own / "cifar10-tiny-fp32.training.safetensors"
    deadline = time.monotonic() + 120
    while not state.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    for resume in ([], ["--resume"]):
        code, out, err = run(capsys, "fft50,fp32", *TINY, "--seed", "5", *resume)
        told = f"Error: --out: got {own}, where another process trains {path.name}\n"
        assert (code, out, err) == (2, "", told)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    before = path.read_bytes()
    for resume in ([], ["--resume"]):
        code, out, err = run(capsys, "fp32", *TINY, "--seed", "5", *resume)
        told = f"Error: --out: got a folder with {path}; legal: a folder without this file\n"
        assert (code, out, err) == (2, "", told)
    assert path.read_bytes() == before
    assert run(capsys, "fp32", *TINY, "--out", "alone")[0] == 0
    alone, facts = checkpoint.load(tmp_path / "alone" / path.name)
    weights, trained_facts = checkpoint.load(path)
    assert facts == trained_facts
    assert all(torch.equal(weights[name], alone[name]) for name in alone)


def test_resuming_a_finished_training_says_so_again(capsys, own):
    code, told, _ = run(capsys, "fp32", *TINY)
    before = (own / "cifar10-tiny-fp32.safetensors").read_bytes()
    assert run(capsys, "fp32", *TINY, "--resume")[:2] == (code, told) == (0, told)
    assert (own / "cifar10-tiny-fp32.safetensors").read_bytes() == before
