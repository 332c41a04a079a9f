"""The option names that commands share: `--models` and `--out`, and earlier names that remain."""

import pytest

from blrobust import frequency
from blrobust.cli import main
from blrobust.errors import UserError


def call(command):
    with pytest.raises(SystemExit) as exit_:
        main(command.split())
    return exit_.value.code


@pytest.fixture
def asked(monkeypatch):
    """The arguments of the calls that would measure."""
    calls = []

    def measure(models, **arguments):
        calls.append((models, arguments))
        raise UserError("stopped here")

    for name in ("heatmap", "recover"):
        monkeypatch.setattr(frequency, name, measure)
    return calls


@pytest.mark.parametrize("command", ["heatmap fp32,fft50", "heatmap --models fp32,fft50"])
def test_models_of_a_heat_map_have_an_argument_and_an_option(asked, command):
    assert call(command) == 2
    assert [models for models, _ in asked] == ["fp32,fft50"]


@pytest.mark.parametrize("option", ["--models", "--networks"])
def test_models_of_a_recovery_have_two_names(asked, option):
    assert call(f"recover {option} fft85") == 2
    assert [arguments["networks"] for _, arguments in asked] == ["fft85"]


@pytest.mark.parametrize("arguments", ["fp32 --models fft50", ""])
@pytest.mark.parametrize("command", ["heatmap", "train"])
def test_neither_and_both_are_one_line(command, arguments, capsys):
    assert call(f"{command} {arguments}") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "Error: --models: got" in err


@pytest.mark.parametrize("option", ["--out", "--output"])
def test_the_file_of_a_report_has_two_names(option, tmp_path, capsys):
    assert call(f"report {tmp_path} {option} report.txt") == 2
    assert "--out: got report.txt; legal: a name that ends in .html" in capsys.readouterr().err
