import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from support import stand_in
from support.messages import error

from blrobust import reports
from blrobust.cli import main
from blrobust.data import datasets
from blrobust.models import zoo
from blrobust.runs.run import Run

NETWORKS = {"fp32": 0, "fft50": 1, "fft85": 2, "lowpass-fft85+fp32": 3}


def replace_the_rest(patch, *, n=120):
    """Tiny models, images and report in place of the real ones."""

    def network(name, *, arch, dataset, device):
        return stand_in.model(name, seed=NETWORKS[name], channels=3)

    patch.setattr(zoo, "load", network)
    document = types.ModuleType("blrobust.reports.document")  # spares the import of seaborn
    document.render = lambda runs, destination: destination.write_text("page")
    patch.setitem(sys.modules, document.__name__, document)
    patch.setattr(reports, "document", document, raising=False)

    def load(name="cifar10", *, split="test", data_dir=None):
        return stand_in.dataset(n, channels=3, name=name)

    patch.setattr(datasets, "load", load)
    patch.setattr(datasets, "load_default", load)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, tmp_path):
    replace_the_rest(monkeypatch)
    monkeypatch.delenv("BLROBUST_DATA", raising=False)  # whose images the announcement counts
    monkeypatch.chdir(tmp_path)


def call(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["noise", *arguments])
    return exit_.value.code


def only_run():
    (path,) = Path("runs").iterdir()
    return Run.open(path)


def test_no_options_are_needed(capsys):
    assert call() == 0
    with only_run() as run:
        assert run.models == list(NETWORKS)
        assert run.levels("gaussian") == [i / 10 for i in range(21)]
        assert run.config.space == "normalized"
        assert run.config.draws == 1
        assert run.config.seed == 0
        assert run.config.dataset.name == "cifar10"
        assert run.finished
        folder = run.path
    shown = capsys.readouterr()
    assert shown.out.rstrip().endswith("report.html")
    first, second, *_, last = shown.err.splitlines()
    assert first == "fp32, fft50, fft85, lowpass-fft85+fp32 x 21 levels x 1,000 images"
    assert second == f"on cpu -> {folder}"
    assert re.fullmatch(r"done in \d+\.\d s; time of all measurements of this run: \d+\.\d s", last)


@pytest.mark.parametrize(
    ("arguments", "has_control"),
    [
        ("--dataset cifar10-sample", True),
        ("--dataset npz:mine.npz", True),
        ("--dataset cifar100", False),
        ("--arch resnet18", False),
        ("--models fp32,fft50,fft85", False),
    ],
)
def test_the_control_is_measured_where_its_cut_was_matched(arguments, has_control):
    assert call("--limit", "5", "--sigma", "0", *arguments.split()) == 0
    with only_run() as run:
        assert run.models == list(NETWORKS)[: 4 if has_control else 3]


def test_more_images_than_there_are_is_noted(capsys):
    assert call("--models", "fp32", "--sigma", "0", "--limit", "2000") == 0
    note = "--limit: got 2,000; cifar10 has 120 images, and all are used"
    assert note in capsys.readouterr().err.splitlines()
    assert call("--models", "fp32", "--sigma", "0", "--limit", "120") == 0
    assert "--limit" not in capsys.readouterr().err


def test_the_baseline_is_a_matter_of_display(capsys):
    arguments = ["--models", "fft50,fft85", "--sigma", "0:1", "--limit", "20"]
    assert call(*arguments) == 0
    first = capsys.readouterr().out
    with only_run() as run:
        before = (run.path / "run.json").read_bytes()
        report = run.path / "report.html"
    report.write_text("old")
    assert call(*arguments, "--baseline", "fft85") == 0
    second = capsys.readouterr().out
    with only_run() as run:  # the same folder
        assert (run.path / "run.json").read_bytes() == before
    assert "against fft50" in first
    assert "against fft85" in second
    assert "than fft50" in first
    assert "than fft85" in second
    assert report.read_text() == "page"  # written again, with this baseline


@pytest.mark.parametrize(
    ("models", "legal"),
    [
        ("fft50-seed1,fft50-seed2", "fft50-seed1, fft50-seed2, fft50"),
        ("lowpass0.5+fp32-seed1,lowpass0.5+fp32", "lowpass0.5+fp32-seed1, lowpass0.5+fp32"),
        ("fft50-seed1", "fft50-seed1"),
        ("fft50-seed1=a:b,fft50-seed2=a:c", "fft50-seed1, fft50-seed2"),
    ],
)
def test_seeds_together_have_the_name_without_the_seed_as_a_baseline(models, legal, capsys):
    assert call("--models", models, "--baseline", "fp32") == 2
    assert error(capsys.readouterr().err).endswith(f"--baseline: got 'fp32'; legal: {legal}")


def test_an_unknown_baseline_is_refused_before_anything_is_loaded(capsys, monkeypatch):
    monkeypatch.setattr(datasets, "load_default", lambda **_: pytest.fail("loaded"))
    assert call("--models", '"a, b"=x:y,fft85', "--baseline", "fp32") == 2
    assert "--baseline: got 'fp32'; legal: a, b, fft85" in error(capsys.readouterr().err)
    assert not Path("runs").exists()


def test_options_reach_the_run(capsys):
    arguments = "--models fft85 --sigma 0,0.5 --space pixel --draws 2 --limit 30 --seed 9"
    assert call(*arguments.split(), "--dataset", "other", "--device", "cpu", "--out", "here") == 0
    with Run.open(Path("here")) as run:
        assert run.models == ["fft85"]
        assert run.levels("gaussian") == [0, 0.5]
        assert run.correct("fft85", "gaussian", 0.5).shape == (2, 30)
        assert run.config.space == "pixel"
        assert run.config.seed == 9
        assert run.config.dataset.name == "other"


@pytest.mark.parametrize(
    ("arguments", "kind", "space", "last"),
    [
        ("--kind uniform", "uniform", "pixel", 0.5),
        ("--kind uniform --epsilon 0:0.2", "uniform", "pixel", 0.2),
        ("--kind uniform --space normalized", "uniform", "normalized", 0.5),
        ("--kind uniform --legacy", "uniform", "legacy", 1.0),
        ("--legacy", "gaussian", "legacy", 2.0),
    ],
)
def test_kinds_and_spaces(arguments, kind, space, last):
    assert call("--models", "fp32", "--limit", "5", *arguments.split()) == 0
    with only_run() as run:
        assert run.kinds == [kind]
        assert run.config.space == space
        assert run.levels(kind)[-1] == last


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--kind uniform --sigma 0:1", "--sigma: got 0:1 with --kind uniform; legal: --epsilon"),
        ("--epsilon 0:1", "--epsilon: got 0:1 with --kind gaussian; legal: --sigma"),
        ("--legacy --space pixel", "--space: got pixel with --legacy"),
        ("--sigma 2:0", "2:0"),
        ("--sigma -1:2", "-1"),
        ("--sigma nan", "nan"),
        ("--sigma x", "'x' is not a number"),
        ("--kind pink", "gaussian"),
        ("--space fourier", "normalized"),
        ("--draws 0", "--draws"),
        ("--limit 0", "--limit"),
        ("--limit x", "--limit"),
        ("--seed -1", "--seed"),
        ("--batch-size 0", "--batch-size"),
        ("--device tpu", "tpu"),
        ("--models fp32,fp32", "twice"),
        ("--models ,", "','"),
        ("--nonsense", "--nonsense"),
        ("extra", "extra"),
        ("--out file", "file"),
        ("--out file/below", "file"),
        ("--out full", "notes.txt"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, told, capsys):
    Path("file").write_text("mine")
    Path("full").mkdir()
    (Path("full") / "notes.txt").write_text("mine")
    assert call(*arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in error(shown.err)
    assert not Path("runs").exists()


def test_another_configuration_in_the_folder_is_refused(capsys):
    assert call("--limit", "5", "--out", "here") == 0
    before = (Path("here") / "run.json").read_bytes()
    capsys.readouterr()
    assert call("--limit", "6", "--out", "here") == 2
    assert "different: dataset" in capsys.readouterr().err
    assert (Path("here") / "run.json").read_bytes() == before


def test_the_note_of_the_data_set_is_said_once(capsys, monkeypatch):
    from dataclasses import replace

    sample = replace(stand_in.dataset(5, channels=3), note="using the sample")
    monkeypatch.setattr(datasets, "load_default", lambda *, data_dir: sample)
    assert call() == 0
    assert capsys.readouterr().err.count("using the sample") == 1


def test_the_report_is_opened_on_request(monkeypatch):
    opened = []
    monkeypatch.setattr("click.launch", lambda path: opened.append(path) or 0)
    assert call("--limit", "5") == 0
    assert opened == []
    assert call("--limit", "5", "--open") == 0
    assert opened[0].endswith("report.html")


def test_ctrl_c_names_the_folder_and_what_is_done_and_exits_with_130(capsys, monkeypatch):
    def stop(self, *cell, really=Run.add, **numbers):
        if len(self.done()) == 5:
            raise KeyboardInterrupt
        really(self, *cell, **numbers)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "add", stop)
        assert call("--models", "fp32", "--out", "here") == 130
    again = "run the same command again to resume"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"Interrupted. here: 5 of 21 levels done; {again}"
    assert call("--models", "fp32", "--out", "here") == 0
    with Run.open(Path("here")) as run:
        assert run.finished
        assert len(run.done()) == 21


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from blrobust.cli import main\n"
        "try: main(['noise', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'rich', 'foolbox'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for option in ("--sigma", "--epsilon", "--models", "--draws", "--out", "BLROBUST_DATA"):
        assert option in shown.stdout
