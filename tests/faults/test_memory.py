"""Memory that ends: a command under a limit of its address space fails in one line."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.archives import huge_npz

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


def test_images_that_do_not_fit_into_memory(tmp_path: Path) -> None:
    huge_npz(tmp_path / "a.npz", (16, 9216, 9216), y=16)
    line = limited("noise", "--dataset", f"npz:{tmp_path / 'a.npz'}", "--models", "fp32", memory=6 * GB)
    assert line.startswith("Error: x in ")
    assert "needs 34.0 GB of memory" in line


def test_a_map_that_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 255, (2, 224, 224, 3), dtype=np.uint8), y=np.array([0, 1]))
    (tmp_path / "small.py").write_text(
        "from torch import nn\n"
        "def f():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    out = ["--out", str(tmp_path / "out")]
    line = limited("heatmap", "m=small:f", "--dataset", f"npz:{tmp_path / 'a.npz'}", *out, memory=6 * GB)
    assert "legal: a smaller size or limit" in line
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
