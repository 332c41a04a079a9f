"""The command as a whole: what every subcommand shares."""

import os
import subprocess
import sys

import pytest

from blrobust import __version__
from blrobust.cli import COMMANDS, main


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return exit_.value.code, *capsys.readouterr()


def python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_version(capsys):
    for flag in ("--version", "-V"):
        assert call(capsys, flag) == (0, f"blrobust {__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("atack", "no such command 'atack'; did you mean attack or attacks?"),
        ("nois", "no such command 'nois'; did you mean noise?"),
        ("zzz", "no such command 'zzz'; blrobust --help lists the commands"),
    ],
)
def test_a_wrong_command_is_one_line_with_the_similar_ones(typed, line, capsys):
    assert call(capsys, typed) == (2, "", f"Error: {line}\n")


def test_a_wrong_option_is_one_line_with_the_similar_ones(capsys):
    code, out, err = call(capsys, "noise", "--sigm", "1")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--sigma" in err


def test_a_table_in_a_pipe_is_plain_text():
    shown = python("from blrobust.cli import main; main(['data', 'list'])", COLUMNS="40")
    assert shown.stdout.isascii()
    assert "\x1b" not in shown.stdout
    header, first, *_ = shown.stdout.splitlines()
    assert header.split() == ["name", "classes", "test", "where", "citation"]
    assert first.startswith("cifar10 ")
    assert first.endswith("Tiny Images"), "the last cell is in the same line"


def test_a_table_on_a_terminal_has_lines(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "│" in call(capsys, "data", "list")[1]


def test_without_arguments_it_shows_its_help(capsys):
    code, out, err = call(capsys)
    assert (code, err) == (0, "")
    assert out == call(capsys, "--help")[1]
    for name, (_, line) in COMMANDS.items():
        assert f"  {name}" in out
        assert line in " ".join(out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help(capsys, name):
    for flag in ("-h", "--help"):
        code, out, err = call(capsys, name, flag)
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: blrobust {name}")
    assert "``" not in out, "markup is for docstrings, not for terminals"


def test_no_help_imports_what_is_heavy():
    shown = python(
        "import sys; from blrobust.cli import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'pandas', 'seaborn', 'rich', 'foolbox'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("at", ["attack", "attacks"]), ("noise --si", ["--sigma"]), ("noise --kind ", ["gaussian", "uniform"])],
)
def test_completion(typed, wanted):
    words = ["blrobust", *typed.split(" ")]
    shown = python(
        "from blrobust.cli import main; main()",
        _BLROBUST_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(words),
        COMP_CWORD=str(len(words) - 1),
    )
    assert [line.split(",")[1] for line in shown.stdout.splitlines()] == wanted


def test_imports_need_no_git_and_start_no_cuda():
    shown = python(
        "import torch\n"
        "import blrobust.evaluation.sweep, blrobust.models.zoo\n"
        "import blrobust.attacks.guard, blrobust.reports.page\n"
        "assert not torch.cuda.is_initialized()\n",
        PATH="",
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_reader_that_leaves_sees_no_traceback():
    code = "from blrobust.cli import main; main(['models'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_an_error_sends_no_control_characters_to_the_terminal(capsys):
    code, _, err = call(capsys, "runs", "a\x1b[31m\nb\udcff")
    assert code == 2
    legal = "a folder that exists ('blrobust noise' makes runs)"
    assert err == f"Error: FOLDER: got a\\x1b[31m b\\udcff; legal: {legal}\n"
