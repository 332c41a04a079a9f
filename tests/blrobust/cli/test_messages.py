"""Messages of the command line: names of options in place of arguments, and of interrupts."""

import inspect
from pathlib import Path

import click
import pytest
from support import invented
from support.plain_model import write_images

import blrobust
from blrobust.cli import COMMANDS, cli, main
from blrobust.cli.option_names import OPTIONS, with_option
from blrobust.errors import UserError
from blrobust.evaluation import run_ends

FUNCTIONS = ("evaluate", "heatmap", "recover", "open_run", "list_runs")


def test_every_row_is_an_argument_and_an_option() -> None:
    functions = [getattr(blrobust, name) for name in FUNCTIONS]
    arguments = {name for function in functions for name in inspect.signature(function).parameters}
    assert set(OPTIONS) - arguments == {"baseline", "runs"}  # of methods, and of `compare`
    commands = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    options = {each for command in commands for param in command.params for each in param.opts}
    assert set(OPTIONS.values()) - options == {"FOLDER", "RUN"}


def test_only_the_head_of_a_message_is_changed() -> None:
    assert with_option("out: got out: file; legal: out") == "--out: got out: file; legal: out"
    assert with_option("model 'out' fails: out: x") == "model 'out' fails: out: x"
    assert with_option("without a colon") == "without a colon"


def test_one_mistake_has_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    invented.run(Path("run"), {"a": [0.9, 0.2], "b": [0.8, 0.1]}, [0.0, 1.0])
    with pytest.raises(UserError, match=r"^baseline: got 'c'; legal: a, b$"):
        blrobust.open_run("run").report("page.html", baseline="c")
    with pytest.raises(SystemExit, match="2"):
        main(["report", "run", "--out", "page.html", "--baseline", "c"])
    assert capsys.readouterr().err == "Error: --baseline: got 'c'; legal: a, b\n"
    with pytest.raises(UserError, match=r"^run: got 'nothing', which does not exist"):
        blrobust.open_run("nothing")
    with pytest.raises(SystemExit, match="2"):
        main(["report", "nothing"])
    assert capsys.readouterr().err.startswith("Error: RUN: got 'nothing', which does not exist")


def test_too_few_classes_of_an_archive_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    write_images(Path("images.npz"))
    stored = np.load("images.npz")
    np.savez("two.npz", x=stored["x"], y=stored["y"] % 2)
    line = "--models m=support.plain_model:Plain --dataset npz:two.npz --sigma 0"
    with pytest.raises(SystemExit, match="2"):
        main(["noise", *line.split()])
    assert "wants (2, 2); legal: an array classes of 3 names in this file" in capsys.readouterr().err


def test_an_interrupt_of_the_first_checks_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    write_images(Path("images.npz"))
    monkeypatch.setattr(run_ends, "find_flags", interrupted)
    line = "noise --models m=support.plain_model:Plain --dataset npz:images.npz --sigma 0,1 --out here"
    with pytest.raises(SystemExit, match="130"):
        main(line.split())
    assert "here: 0 of 2 cells done; run the same command again to resume" in capsys.readouterr().err
