"""Sizes and counts that no machine has room for are refused in one line, before work starts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.archives import huge_npz

from blrobust import memory
from blrobust.cli import main
from blrobust.data import image_files
from blrobust.data.image_files import read_npz
from blrobust.errors import UserError
from blrobust.perturbations import levels
from blrobust.perturbations.random_numbers import uniforms

GB = 2**30
HUGE = 10**30


def many(form: str, count: int) -> str:
    """Return a comma-separated list of different names."""
    return ",".join(map(form.format, range(count)))


def test_an_archive_is_not_unpacked_before_it_is_refused(tmp_path: Path, monkeypatch) -> None:
    huge_npz(tmp_path / "a.npz", (2**9, 2**10, 2**10), y=2**9)
    assert (tmp_path / "a.npz").stat().st_size < 2**20
    monkeypatch.setattr(image_files.memory, "available", lambda: 2**28)
    monkeypatch.setattr(np.lib.format, "read_array", None)
    with pytest.raises(UserError, match=r"x in .*a.npz, 512 x 1024 x 1024: needs .* GB of memory, 0.3 GB"):
        read_npz(tmp_path / "a.npz")
    monkeypatch.setattr(image_files.memory, "available", lambda: 2**40)
    huge_npz(tmp_path / "b.npz", (2, 2**10, 2**10), y=10**6)
    with pytest.raises(
        UserError, match=r"y in .*b.npz: got int64 .*; legal: one per image, of which x has 2"
    ):
        read_npz(tmp_path / "b.npz")
    huge_npz(tmp_path / "c.npz", (2**20, 2**10, 2**10), y=2, packed=False)
    with pytest.raises(UserError, match=r"c.npz cannot be read .* does not fit 1,048,704 bytes"):
        read_npz(tmp_path / "c.npz")


def test_lists_have_the_bound_of_ranges() -> None:
    assert len(levels.parse(",".join(map(str, range(1001))))) == 1001
    with pytest.raises(UserError, match="lists 3,000 levels, more than 1,001") as caught:
        levels.parse(",".join(map(str, range(3000))))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            "noise --models fp32,fp16 --limit 2 --sigma 0:1:0.002 --draws 10000",
            "got 10,020,000 cells; legal: at most",
        ),
        ("train fp32 --lr 1e39", "float32"),
        ("train fp32 --noise 1e39", "float32"),
        ("recover --compressions " + ",".join(f"0.{i:05}" for i in range(1, 3000)), "at most 1,001"),
        (f"noise --models {many('m{}=x.safetensors', 1000)}", "models: got 1,000 names; legal: at most 256"),
        (f"heatmap {many('m{}=x.safetensors', 20_000)}", "models: got 20,000 names; legal: at most 256"),
        (f"recover --networks {many('m{}=x.safetensors', 20_000)}", "models: got 20,000 names; legal"),
        (f"train {many('m{}', 20_000)}", "models: got 20,000 names; legal: at most 256"),
        (f"noise --models {'l' * 2000}=x.safetensors", "legal: at most 1,000 characters"),
        (f"noise --limit 2 --models {'lowpass0.5+' * 3000}fp32", "legal: at most 1,000 characters"),
        (f"noise --limit 2 --models m={'lowpass0.5+' * 3000}fp32", "got 3,000 channels; legal: at most 32"),
        (f"noise --arch {'x' * 100_000}", "characters)"),
        (f"recover --bits {'9' * 100_000}", "characters)"),
        (f"report {many('run{}', 5000).replace(',', ' ')}", "RUN: got 5,000 runs; legal: at most 200"),
        (f"noise --limit 2 --draws {HUGE}", "is not in the range 1<=x<=10000"),
        (f"noise --limit 2 --seed {HUGE}", "is not in the range 0<=x<=4294967295"),
        (f"heatmap fp32 --limit 2 --size {HUGE}", "legal: 1 to 32 for images of 32 x 32"),
        (f"attack --kind pgd-linf --limit 2 --set steps={HUGE}", "legal: numbers below 1e9"),
        (f"attack --kind pgd-linf --limit 2 --set eot={HUGE}", "legal: numbers below 1e9"),
        (f"attack --kind gen --limit 2 --target {HUGE}", "legal: 0 to 9"),
        (f"train fp32 --epochs {HUGE}", "is not in the range 1<=x<=100000"),
        ("noise --out=", "got an empty path; legal: a path"),
        ("heatmap fp32 --out=~nobody-has-this-name/x", "unknown user"),
        ("report x --output=", "empty path"),
        ("train fp32 --out=", "empty path"),
    ],
)
def test_counts_and_paths(arguments: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments.split())
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert told in err.splitlines()[-1]
    assert len(err) < 10_000


@pytest.mark.parametrize("options", [f"--limit {HUGE}", f"--batch-size {HUGE}", f"--batch-size {2**40}"])
def test_numbers_above_what_there_is_are_that(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((10, 32, 32, 3)), y=np.arange(10))
    name = f"npz:{tmp_path / 'a.npz'}"
    command = f"noise --models fp32 --sigma 0 --device cpu --dataset {name} --out {tmp_path / 'run'}"
    with pytest.raises(SystemExit) as end:
        main([*command.split(), *options.split()])
    assert end.value.code == 0


def test_random_numbers_that_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: GB)
    with pytest.raises(UserError, match=r"^3 x 100,000,000 random numbers: needs 1.2 GB of memory, 1.1 GB"):
        uniforms(10**8, stream=1, seed=0, draw=0, samples=[0, 1, 2], device=torch.device("cpu"))


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["noise", "--models", "fp32", "--limit", "2", "--sigma", "0", "--out=~/x"])
    assert end.value.code == 0
    assert (tmp_path / "x" / "run.json").is_file()
    assert not (tmp_path / "~").exists()
