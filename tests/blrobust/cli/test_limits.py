"""Sizes and counts that no machine has room for are refused in one line, before work starts."""

import io
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from blrobust.cli import main
from blrobust.data import image_files
from blrobust.data.image_files import read_npz
from blrobust.errors import UserError
from blrobust.perturbations import levels

GB = 2**30


def limited(*arguments: str, memory: int) -> str:
    """Run the command with that many bytes of address space; return its last line, after a refusal."""
    done = subprocess.run(
        [sys.executable, "-m", "blrobust", *arguments, "--device", "cpu"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 2, done.stderr
    return done.stderr.splitlines()[-1]


def huge_npz(path: Path, shape: tuple[int, ...], *, y: int, packed: bool = True) -> None:
    """Write an archive of zeros of that shape, a few megabytes, and `y` labels."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(int(np.prod(shape)) // 2**20 if packed else 1):
                member.write(bytes(2**20))
        labels = io.BytesIO()
        np.save(labels, np.zeros(y, dtype=np.int64))
        archive.writestr("y.npy", labels.getvalue())


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


def test_images_that_do_not_fit_into_memory(tmp_path: Path) -> None:
    huge_npz(tmp_path / "a.npz", (16, 9216, 9216), y=16)
    line = limited("noise", "--dataset", f"npz:{tmp_path / 'a.npz'}", "--models", "fp32", memory=6 * GB)
    assert line.startswith("Error: x in ")
    assert "needs 34.0 GB of memory" in line


def test_a_map_that_does_not_fit_into_memory(tmp_path: Path, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 255, (2, 224, 224, 3), dtype=np.uint8), y=np.array([0, 1]))
    (tmp_path / "small.py").write_text(
        "from torch import nn\n"
        "def f():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    out = ["--out", str(tmp_path / "out")]
    line = limited("heatmap", "m=small:f", "--dataset", f"npz:{tmp_path / 'a.npz'}", *out, memory=6 * GB)
    assert "legal: a smaller --size or --limit" in line
    assert not (tmp_path / "out").exists()


def test_memory_that_ends_in_the_middle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 255, (4, 4000, 4000), dtype=np.uint8), y=np.arange(4))
    (tmp_path / "model.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def f():\n    return nn.Sequential(nn.Conv2d(1, 40, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "blrobust", "noise", "--dataset", "npz:a.npz", "--models", "m=model:f"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 * GB, 4 * GB)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "memory" in done.stderr.splitlines()[-1]


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
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["noise", "--models", "fp32", "--limit", "2", "--sigma", "0", "--out=~/x"])
    assert end.value.code == 0
    assert (tmp_path / "x" / "run.json").is_file()
    assert not (tmp_path / "~").exists()
