import contextlib
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from blrobust import terminal


def row(model, **changes):
    names = ("clean", "mean", "half_level")
    values = {f"{name}{end}": 0.5 for name in names for end in ("", "_low", "_high")}
    compression = {"nominal_compression": 0.0, "effective_compression": 0.0}
    return {"model": model, **compression, **values, "better": np.nan, "worse": np.nan, **changes}


def show(rows):
    run = SimpleNamespace(
        kinds=["gaussian"],
        draws=1,
        config={"space": "normalized"},
        provenance={"dataset": {"name": "folder:[red]x"}},
        labels=np.zeros(7),
    )
    terminal.print_summary(run, pd.DataFrame(rows))


def test_the_table_escapes_names_and_says_what_is_missing(capsys):
    show(
        [
            row("[bold]mine[/bold]", clean=0.9215, nominal_compression=None),
            row("fft50", nominal_compression=0.48, effective_compression=0.515, better=0.25),
            row("c", half_level=np.inf, half_level_low=np.nan),
        ]
    )
    shown = capsys.readouterr().out
    assert "[bold]mine[/bold]" in shown
    assert "folder:[red]x, n = 7, one draw" in shown
    assert "92.2%" in shown
    assert "eff. 0.515" in shown
    assert "+25% -" in shown
    assert "beyond" in shown
    assert "- 0.5" in shown
    assert "nan" not in shown


def test_a_calibrated_model_shows_its_effective_compression(capsys):
    show([row("calibrated", effective_compression=0.515), row("fp32")])
    shown = capsys.readouterr().out
    assert "eff. 0.515" in shown
    assert shown.count("none") == 1


def test_without_a_terminal_progress_is_a_line_per_model(capsys):
    with terminal.Meter(images=30) as meter:
        for name in ("fp32", "fp32", "[b]x"):
            meter.begin(name)
            meter.advance(10)
    shown = capsys.readouterr()
    assert [line.split(":")[0] for line in shown.err.splitlines()] == ["fp32", "[b]x"]
    assert shown.out == ""


def test_progress_on_a_terminal_is_cleaned_up_by_ctrl_c(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    def interrupted():
        with terminal.Meter(images=30) as meter:
            meter.begin("fp32")
            meter.advance(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    shown = capsys.readouterr().err
    assert "fp32" in shown
    assert shown.rstrip("\n").endswith(("\x1b[?25h", "\x1b[2K")), "cursor shown, bar erased"


def test_the_numbers_of_the_bar_fit_into_60_columns_and_go_on_after_a_stop(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with contextlib.suppress(KeyboardInterrupt), terminal.Meter(images=99_000, done=12_000) as meter:
        meter.begin("a label of many words that fits into no terminal")
        meter.advance(345)
        raise KeyboardInterrupt
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "a label of many wor…" in shown
    assert "12345/99000 images, -:--:-- to go" in shown
