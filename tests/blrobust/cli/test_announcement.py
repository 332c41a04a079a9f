"""The lines on stderr before and after a measurement."""

import subprocess
import sys
from pathlib import Path

import pytest

from blrobust.cli import announcement
from blrobust.cli.announcement import Announcement

MEASURED = "time of all measurements of this run"
WITHOUT_TORCH = """
import sys
from blrobust.cli import main
sys.modules["torch"] = None  # whoever imports it fails
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("noise --sigma 0:2 --models fp32,fft50,fft85", "fp32, fft50, fft85 x 21 levels x 1,000 images"),
        (
            "noise --models fp32 --sigma 0 --draws 3 --limit 1 --out x/y --device cpu",
            "fp32 x 1 level x 1 image x 3 draws on cpu -> x/y",
        ),
        (
            "attack --kind fgsm,pgd-linf --strength 1/255,8/255 --models fp32 --dataset npz:a.npz",
            "fp32 x fgsm, pgd-linf (6 levels) x all images of npz:a.npz",
        ),
        (
            "attack --kind suite:quick --models fp32 --dataset cifar100 --device cuda:1",
            " x 10,000 images on cuda:1",
        ),
        ("heatmap fp32,fft85 --size 9 --limit 20", "fp32, fft85: a map of 9 by 9 frequencies, 20 images"),
        (
            "recover --networks fft50 --bits 4,3 --limit 20",
            "pgd-linf, deepfool-l2 on fp32 x 8 channels x 20 images",
        ),
    ],
)
def test_a_measurement_is_announced_before_torch_is_imported(
    arguments: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLROBUST_DATA", str(tmp_path))
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments.split()]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    first = shown.stderr.splitlines()[0]
    assert first.endswith(line) if line.startswith(" ") else first == line
    assert "import of torch halted" in shown.stderr


def test_the_second_line_has_what_was_unknown_and_the_last_one_the_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 12.34, 0.0, 3725.4, 0.0])
    monkeypatch.setattr(announcement.time, "perf_counter", lambda: next(clock))
    first = Announcement("work", device="auto", out=None)
    first.begin(Path("runs/ab"), 0, 63, device="cpu")
    first.finish(1.25)
    second = Announcement("work", device="auto", out=Path("x"))
    second.begin(Path("x"), 12, 63, device="cuda:0")
    second.finish(60.0)
    third = Announcement("work", device="cpu", out=Path("x"))
    third.begin(Path("x"), 0, 63, device="cpu")
    third.begin(Path("x"), 63, 63, device="cpu")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        *("work", "on cpu -> runs/ab", f"done in 12.3 s; {MEASURED}: 1.2 s"),
        *("work -> x", "on cuda:0 (12 of 63 cells done before)", f"done in 1:02:05; {MEASURED}: 0:01:00"),
        *("work on cpu -> x", "(63 of 63 cells done before)"),
    ]


def test_names_from_the_user_send_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    Announcement("a\x1b[31m\nb", device="auto", out=None)
    assert capsys.readouterr().err == "a\\x1b[31m b\n"
