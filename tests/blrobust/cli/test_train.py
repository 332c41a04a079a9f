import json
from pathlib import Path

import pytest
import torch
from support import tiny_training

from blrobust.cli import main
from blrobust.models import checkpoint, zoo
from blrobust.runs.lock import acquire
from blrobust.training import curves

TINY = ["--arch", "tiny", "--epochs", "3", "--batch-size", "16", "--device", "cpu"]


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Tiny networks and images, an own weights folder, and torch's global settings put back."""
    tiny_training.install(monkeypatch)
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
    model = zoo.load("fft33", arch="tiny", dataset=tiny_training.load(), device=torch.device("cpu"))
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


def test_a_seed_in_the_name(capsys, own):
    assert run(capsys, "fft33-seed2", *TINY)[0] == 0
    facts = checkpoint.load(own / "cifar10-tiny-fft33-seed2.safetensors")[1]
    assert (facts.seed, facts.recipe["seed"], facts.compression) == (2, 2, 0.33)
    model = zoo.load("fft33-seed2", arch="tiny", dataset=tiny_training.load(), device=torch.device("cpu"))
    assert model.card.seed == 2


def test_several_seeds_side_by_side_are_the_trainings_of_each(capsys, own):
    assert run(capsys, "fft33,fp32", *TINY, "--seeds", "2", "-q")[0] == 0
    stems = [f"cifar10-tiny-{name}" for name in ("fft33", "fft33-seed1", "fp32", "fp32-seed1")]
    assert sorted(file.stem for file in own.glob("*.safetensors")) == stems
    together = checkpoint.load(own / "cifar10-tiny-fft33-seed1.safetensors")
    assert run(capsys, "fft33-seed1", *TINY, "--out", "alone")[0] == 0
    alone = checkpoint.load(Path("alone/cifar10-tiny-fft33-seed1.safetensors"))
    assert together[1] == alone[1]
    assert all(torch.equal(together[0][name], alone[0][name]) for name in alone[0])
    assert run(capsys, "fp32", *TINY, "--seed", "4", "--seeds", "1")[0] == 0
    assert checkpoint.load(own / "cifar10-tiny-fp32-seed4.safetensors")[1].seed == 4


def test_recipes_and_curves(capsys, own):
    options = "--recipe published --epochs 2 --curves --label-smoothing 0.2 --ema 0.9 --cutout 3 --device cpu"
    assert run(capsys, "fp32", "--arch", "tiny", *options.split())[0] == 0
    recipe = checkpoint.load(own / "cifar10-tiny-fp32.safetensors")[1].recipe
    assert (recipe["batch_size"], recipe["lr"], recipe["schedule"]) == (32, 0.01, "plateau")
    assert (recipe["label_smoothing"], recipe["ema"], recipe["cutout"]) == (0.2, 0.9, 3)
    found = curves.read(own / "cifar10-tiny-fp32.history.csv")
    assert len(found) == 2
    assert found["test_accuracy"].notna().all()


def test_resnet18_has_the_fast_recipe(capsys):
    out = run(capsys, "fp32", "--arch", "resnet18", "--dry-run", "--batch-size", "8")[1]
    assert out.startswith("cifar10-resnet18-fp32: 150 epochs")
    other = ["--recipe", "published", "--batch-size", "8"]
    out = run(capsys, "fp32", "--arch", "resnet18", "--dry-run", *other)[1]
    assert out.startswith("cifar10-resnet18-fp32: 350 epochs")


def test_an_address_of_weights_is_not_written_to(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    monkeypatch.setenv("BLROBUST_WEIGHTS", "https://example.com/weights")
    assert run(capsys, "fp32", *TINY)[0] == 0
    assert (tmp_path / "data/weights/cifar10-tiny-fp32.safetensors").exists()


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


def test_a_dry_run_writes_nothing(capsys, own, monkeypatch):
    path = own / "cifar10-tiny-fp32.safetensors"
    line = f"cifar10-tiny-fp32: 3 epochs x 80 images on cpu -> {path} "
    assert run(capsys, "fp32", *TINY, "--dry-run") == (0, f"{line}(a new training)\n", "")
    assert not own.exists()
    state_in(own, capsys, monkeypatch, "fp32", *TINY)
    before = {file: file.read_bytes() for file in own.iterdir()}
    assert "legal: give --resume" in run(capsys, "fp32", *TINY, "--dry-run")[2]
    code, out, _ = run(capsys, "fp32", *TINY, "--resume", "--dry-run")
    assert (code, out) == (0, f"{line}(resumes after epoch 1)\n")
    assert {file: file.read_bytes() for file in own.iterdir()} == before
    assert run(capsys, "fp32", *TINY, "--resume")[0] == 0
    out = run(capsys, "fp32", *TINY, "--resume", "--dry-run")[1]
    assert out == f"{line}(finished; nothing would be trained)\n"


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
        ("fp32 --arch vgg", "--arch: got 'vgg'; legal: resnet20, resnet18, tiny"),
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
        ("fp32-seed1 --seed 2", "--seed: got 2 for fp32-seed1; legal: a model without a seed in its name"),
        ("fp32-seed1 --seeds 2", "--seeds: got 2 for fp32-seed1; legal: a model without a seed in its name"),
        ("fp32 --seeds 0", "--seeds"),
        ("fp32,fp32-seed2 --seeds 3", "--seeds: got 3 for fp32-seed2"),
        ("fp32 --seed 4294967295 --seeds 1", "seed: got 4294967295 for fp32; legal: 0 to 999999999"),
        ("fp32 --seeds 300", "got 300 names; legal: at most 256"),
        ("fp32 --recipe slow", "--recipe"),
        ("fp32 --label-smoothing 1", "--label-smoothing"),
        ("fp32 --ema 1", "--ema"),
        ("fp32 --cutout -1", "--cutout"),
        ("fp32 --holdout 80", "--holdout: got 80; legal: numbers below 80, that of all training images"),
        ("fp32 --noise -1", "--noise"),
        ("fp32-narrow", "got fp32-narrow for tiny; legal: resnet20"),
        ("fp32 --out file/below", "file"),
        ("", "--models: got none"),
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
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device", "weights")

    monkeypatch.setattr("blrobust.atomic_write.write_bytes", full)
    code, _, err = run(capsys, "fp32", *TINY)
    assert code == 2
    assert err.splitlines()[-1] == "Error: weights: No space left on device"


def test_a_second_seed_is_refused_while_the_first_is_trained_and_afterwards(capsys, own):
    path = own / "cifar10-tiny-fp32.safetensors"
    own.mkdir()
    with acquire(own / "cifar10-tiny-fp32.lock", "free"):  # as the process that trains it
        for resume in ([], ["--resume"]):
            code, out, err = run(capsys, "fft50,fp32", *TINY, "--seed", "5", *resume)
            told = f"Error: --out: got {own}, where another process trains {path.name}\n"
            assert (code, out, err) == (2, "", told)
    assert run(capsys, "fp32", *TINY)[0] == 0
    before = path.read_bytes()
    for resume in ([], ["--resume"]):
        code, out, err = run(capsys, "fp32", *TINY, "--seed", "5", *resume)
        told = f"Error: --out: got a folder with {path}; legal: a folder without this file\n"
        assert (code, out, err) == (2, "", told)
    assert path.read_bytes() == before


def test_resuming_a_finished_training_says_so_again(capsys, own):
    code, told, _ = run(capsys, "fp32", *TINY)
    before = (own / "cifar10-tiny-fp32.safetensors").read_bytes()
    assert run(capsys, "fp32", *TINY, "--resume")[:2] == (code, told) == (0, told)
    assert (own / "cifar10-tiny-fp32.safetensors").read_bytes() == before
