"""`--config` and `--dump-config`: the options of a command in a TOML file."""

import os
import sys

import pytest

from blrobust import api, frequency
from blrobust.cli import main
from blrobust.errors import UserError

SAMPLE = "--dataset cifar10-sample --device cpu --limit 2 --arch resnet20"


def call(command):
    with pytest.raises(SystemExit) as exit_:
        main(command.split() if isinstance(command, str) else command)
    return exit_.value.code


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The arguments of the calls that would measure."""
    calls = []

    def measure(models, **arguments):
        del arguments["progress"]
        calls.append((models, arguments))
        raise UserError("stopped here")

    monkeypatch.setattr(api, "evaluate", measure)
    for name in ("heatmap", "recover"):
        monkeypatch.setattr(frequency, name, measure)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BLROBUST_DATA", raising=False)
    return calls


@pytest.mark.parametrize(
    "command",
    [
        "noise",
        "noise --dataset svhn",  # has no control among its default models
        f"noise --kind uniform --epsilon 0:8/255:1/255 --legacy --draws 3 --out x --open {SAMPLE}",
        "noise --sigma 0.5 --space pixel --batch-size 7 --seed 5 --data-dir . --baseline fp32",
        f"attack --kind pgd* --set steps=3 --set pgd-linf.restarts=2 --source fp32 {SAMPLE}",
        "attack --kind gen --target 3",
        "attack --kind fgsm --strength 0,2/255 --preset paper --save-adversarials",
        "heatmap fp32,fft50 --size 3 --norm 1e-05",
        "heatmap --models a'b=x.safetensors",
        "recover --strength 2/255 --bits 4,3 --networks fft85",
    ],
)
def test_a_file_gives_the_same_measurement_as_its_options(asked, command, tmp_path, capsys):
    assert call(command) == 2
    capsys.readouterr()
    assert call(f"{command} --dump-config") == 0
    out, err = capsys.readouterr()
    assert err == ""
    (tmp_path / "options.toml").write_text(out)
    assert call(f"{command.split()[0]} --config options.toml") == 2
    first, second = asked
    assert second == first
    assert call(f"{command.split()[0]} --config options.toml --dump-config") == 0
    assert capsys.readouterr().out == out


def test_a_training_is_dumped_too(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLROBUST_DATA", str(tmp_path))
    assert call("train fp32 --epochs 3 --lr 0.1 --out here") == 2  # there are no training images
    capsys.readouterr()
    assert call("train fp32 --epochs 3 --lr 0.1 --out here --dump-config") == 0
    out = capsys.readouterr().out
    assert 'models = "fp32"\n' in out
    assert "epochs = 3\n" in out
    (tmp_path / "options.toml").write_text(out)
    assert call("train --config options.toml --dump-config") == 0
    assert capsys.readouterr().out == out


def test_the_command_line_has_priority(asked, tmp_path):
    (tmp_path / "x.toml").write_text('draws = 3\nseed = 4\nmodels = ["fp32", "fft50"]\nsigma = [0.5, 1]\n')
    assert call("noise --config x.toml --seed 7") == 2
    ((models, arguments),) = asked
    assert models == "fp32,fft50"
    assert (arguments["draws"], arguments["seed"]) == (3, 7)
    assert arguments["noise"] == {"gaussian": (0.0, 0.5, 1.0)}


def test_the_argument_has_priority_over_models_in_the_file(asked, tmp_path):
    (tmp_path / "x.toml").write_text('models = "fft50"\n')
    assert call("heatmap fp32 --config x.toml") == 2
    assert call("heatmap --config x.toml") == 2
    assert [models for models, _ in asked] == ["fp32", "fft50"]


def test_a_required_option_may_be_in_the_file(asked, tmp_path):
    (tmp_path / "x.toml").write_text('kind = "fgsm"\nset = "eot=2"\nsave-adversarials = true\n')
    assert call("attack --config x.toml") == 2
    ((_, arguments),) = asked
    assert (arguments["attacks"], arguments["save_adversarials"]) == ("fgsm", True)
    assert arguments["parameters"] == ("eot=2",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = 1", "got the key 'nonsense' in x.toml; legal: kind, sigma, epsilon,"),
        ("config = 1", "got the key 'config'"),
        ("batch_size = 1", "got the key 'batch_size'"),
        ("draws = 0", "got draws = 0 in x.toml: 0 is not in the range"),
        ("draws = 1.5", "'1.5' is not a valid integer"),
        ("draws = true", "legal: a text, a number, or a list of them"),
        ("draws = 2020-01-01", "legal: a text, a number, or a list of them"),
        ("[draws]", "legal: a text, a number, or a list of them"),
        ("legacy = 1", "got legacy = 1 in x.toml; legal: true or false"),
        ('kind = "x"', "is not one of"),
        ('batch-size = "many"', "legal: a whole number from 1 on, or auto"),
        ("draws =", "x.toml, which is not TOML"),
        ("x = " + "[" * 100_000, "x.toml, which is not TOML"),
        ("seed = 0x" + "f" * 5000, "--config: got seed"),
        ('data-dir = "a\\u0000x"', "legal: text without the character NUL"),
        (f'out = "{"a" * 300}"', "legal: a path, without NUL"),
        ("#" * 1_000_001, "x.toml: got 1,000,001 bytes; legal: at most 1,000,000"),
    ],
)
def test_bad_files_are_one_line(asked, tmp_path, capsys, text, message):
    (tmp_path / "x.toml").write_text(text)
    assert call("noise --config x.toml") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), asked) == ("", 1, [])
    assert message in err


def test_a_file_that_cannot_be_read_is_one_line(asked, tmp_path, capsys):
    (tmp_path / "x.toml").write_bytes(b'kind = "\xff"')
    for name in ("x.toml", "absent.toml", "."):
        assert call(f"noise --config {name}") == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs the devices of Linux")
def test_devices_and_pipes_are_not_read(asked, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for name, problem in {
        "/dev/zero": "which is not a regular file",
        "pipe": "which is not a regular file",
        "/proc/self/mem": "which cannot be read (Input/output error)",
        "absent.toml": "which does not exist",
    }.items():
        assert call(f"noise --config {name}") == 2
        told = f"Error: --config: got {name}, {problem}; legal: a TOML file of at most 1,000,000 bytes\n"
        assert capsys.readouterr().err == told


def test_two_names_of_an_option_are_refused(asked, tmp_path, capsys):
    (tmp_path / "x.toml").write_text('models = "fft50"\nnetworks = "fft85"\n')
    assert call("recover --config x.toml") == 2
    assert "beside its other name" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not Unicode")
def test_text_that_is_not_unicode_is_refused(asked, capsys):
    assert call(["noise", "--out", "a\udcffb", "--dump-config"]) == 2
    assert "legal with --dump-config: Unicode text" in capsys.readouterr().err


def test_all_other_characters_come_back(asked, tmp_path, capsys):
    name = 'a"b\\c\x7f\u202e\U0001f600 \t=x'
    assert call(["noise", "--arch", name, "--dump-config"]) == 0
    (tmp_path / "x.toml").write_text(capsys.readouterr().out, "utf-8")
    assert call("noise --config x.toml") == 2
    assert [arguments["arch"] for _, arguments in asked] == [name]


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_pipe_without_a_writer_is_refused(asked, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit) as end:
        main(["noise", "--config", "pipe"])
    assert end.value.code == 2
    told = "got pipe, which is not a regular file; legal: a TOML file of at most 1,000,000 bytes"
    assert capsys.readouterr().err == f"Error: --config: {told}\n"


def test_the_character_nul_is_refused(asked, tmp_path, capsys):
    (tmp_path / "file").write_text('out = "a\\u0000x"')
    assert call("noise --config file") == 2
    told = "Error: --config: got out = 'a\\x00x' in file; legal: text without the character NUL\n"
    assert capsys.readouterr().err == told
