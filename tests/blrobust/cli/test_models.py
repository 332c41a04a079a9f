import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blrobust.cli import main
from blrobust.data import datasets
from blrobust.models import checkpoint, zoo
from blrobust.models.checkpoint import Facts

BUNDLED = Path(zoo.__file__).parents[1] / "weights"
NAMES = ["fp32", "fp16", "bf16", "fft50", "fft85", "fft85-compact", "fp32-early"]
NAMES += ["fp32-noise", "fp32-lowpass", "fp32-narrow"]


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(folder))
    monkeypatch.setenv("BLROBUST_DATA", str(tmp_path / "no data"))
    monkeypatch.setenv("COLUMNS", "160")
    return folder


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["models", *arguments])
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def cells(out, name):
    """The row of a model, cell by cell."""
    rows = [re.split(r"  +", line) for line in out.splitlines()]
    (row,) = [row for row in rows if row[0] == name and len(row) > 2]
    return row[1:]


def add_own(folder, name="fft33", **facts):
    tensors, old = checkpoint.load(BUNDLED / "cifar10-resnet20-fp32.safetensors")
    checkpoint.save(folder / f"cifar10-resnet20-{name}.safetensors", tensors, replace(old, **facts))


def test_the_list_shows_both_compressions_and_the_grammar(capsys):
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert cells(out, "fp32") == ["resnet20, cifar10", "-", "-", "92.44%", "package"]
    network, nominal, effective, accuracy, origin = cells(out, "fft85")
    assert (network, nominal, accuracy, origin) == ("resnet20, cifar10", "0.84", "83.66%", "package")
    assert 0.8455 <= float(effective) <= 0.8465
    assert cells(out, "fft50")[1:3] == ["0.48", "0.500"]
    assert [cells(out, name)[-1] for name in NAMES] == ["package"] * len(NAMES)
    for form in ("fftNN", "fp16-fftNN", "LABEL=FILE.safetensors", "LABEL=PACKAGE.MODULE:FACTORY", "1 to 99"):
        assert form in out
    assert out.rstrip().endswith("blrobust train NAME")


def test_own_weights_are_listed_with_their_folder(capsys, own):
    add_own(own, compression=0.33, test_accuracy=None)
    add_own(own, "[red]odd")
    _, out, _ = run(capsys)
    network, nominal, effective, accuracy, origin = cells(out, "fft33")
    assert (network, nominal, accuracy) == ("resnet20, cifar10", "0.33", "-")
    assert 0.3 < float(effective) < 0.4
    assert origin.startswith("/")
    assert "[red]odd" in out


def test_the_list_fits_a_terminal_of_80_columns(capsys, monkeypatch):
    for name, value in {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    _, out, _ = run(capsys)
    assert max(map(len, out.splitlines())) <= 80
    assert all(name in out for name in NAMES)


def test_verify_without_the_data(capsys):
    code, out, err = run(capsys, "--verify")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(NAMES)
    for line in lines:
        assert line.startswith("ok     cifar10-resnet20-")
        assert line.endswith(": checksum; weights fit; accuracy not measured, cifar10 is not on disk")


def test_verify_measures_where_the_data_is(capsys, monkeypatch):
    short = datasets.load("cifar10-sample").take(2)
    monkeypatch.setattr(datasets, "load", lambda name, **options: short)
    recorded = iter(entry.facts.test_accuracy for entry in zoo.entries(on_broken=pytest.fail))
    monkeypatch.setattr(zoo, "accuracy", lambda *arguments: next(recorded))
    code, out, _ = run(capsys, "--verify")
    assert code == 0
    assert out.splitlines()[0].endswith("bf16: checksum; accuracy 92.40%, recorded 92.40%")
    monkeypatch.setattr(zoo, "accuracy", lambda *arguments: 0.924)
    code, out, err = run(capsys, "--verify")
    assert code == 2
    assert "FAILED cifar10-resnet20-fft50: accuracy 92.40%, recorded 90.43%" in out.splitlines()
    assert "ok     cifar10-resnet20-fp32: checksum; accuracy 92.40%, recorded 92.44%" in out.splitlines()
    assert err == "Error: 7 of the checkpoints are not what they say\n"


def test_verify_finds_a_changed_byte(capsys, monkeypatch, tmp_path):
    copy = tmp_path / "weights"
    shutil.copytree(BUNDLED, copy)
    monkeypatch.setattr(zoo, "BUNDLED", copy)
    path = copy / "cifar10-resnet20-fp16.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 64
    path.write_bytes(content)
    code, out, err = run(capsys, "--verify")
    assert code == 2
    assert "FAILED cifar10-resnet20-fp16: checksum differs from SHA256SUMS" in out.splitlines()
    assert err == "Error: 1 of the checkpoints are not what they say\n"


@pytest.mark.parametrize("content", [b"hello\n", os.urandom(200), b""])
def test_a_broken_own_file_hides_no_other(capsys, own, content):
    (own / "broken.safetensors").write_bytes(content)
    problem = f"checkpoint {own / 'broken.safetensors'} is not a readable safetensors file"
    code, out, err = run(capsys)
    assert code == 0
    assert "fft85-compact" in out
    assert err.startswith(f"left out: {problem}")
    code, out, err = run(capsys, "--verify")
    assert code == 2
    assert out.startswith(f"FAILED {problem}")
    assert out.count("\nok ") == len(NAMES)
    assert err == "Error: 1 of the checkpoints are not what they say\n"


@pytest.mark.parametrize("arguments", [["--nonsense"], ["extra"]])
def test_bad_arguments(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_verify_goes_on_after_weights_that_do_not_fit(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(tmp_path))
    facts = Facts(
        arch="resnet20", classes=7, precision="fp32", compression=0.0, fft_size="paper", dataset="nowhere",
        mean=(0.5,), std=(0.2,), seed=0,
    )  # fmt: skip
    for name in ("a", "b"):
        checkpoint.save(tmp_path / f"{name}.safetensors", {"weight": torch.zeros(1)}, facts)
    monkeypatch.setattr(zoo, "BUNDLED", tmp_path / "none")
    code, out, err = run(capsys, "--verify")
    assert code == 2
    assert [line.split(":")[0].split() for line in out.splitlines()] == [["FAILED", "a"], ["FAILED", "b"]]
    assert out.count("does not fit resnet20") == 2
    assert "2 of the checkpoints" in err
