"""Models of several training seeds in the report and in the terminal."""

import re
from pathlib import Path

import pytest
from support import invented

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.cli.results import print_attacks, print_summary
from blrobust.reports import notebook, page
from blrobust.reports.axes import axis
from blrobust.reports.conclusions import conclusions
from blrobust.reports.seed_notes import seed_notes, seed_range
from blrobust.runs.run import Run

LEVELS = [0.0, 0.5, 1.0]
CURVES = {
    "fp32": [0.9, 0.4, 0.1],
    "fp32-seed1": [0.92, 0.42, 0.1],
    "fft85": [0.85, 0.75, 0.6],
    "fft85-seed1": [0.81, 0.71, 0.5],
    "fft85-seed2": [0.83, 0.73, 0.5],
    "fft50": [0.9, 0.5, 0.2],
}
NOTE = (
    "Means over training seeds: fp32 (2 seeds); fft85 (3 seeds). Intervals are over seeds and images, and "
    "rough: fewer than 10 seeds."
)


def run(path: Path, **options: object) -> Path:
    given = {"n": 400, "is_exact": True, "cards": invented.trained(CURVES)} | options
    return invented.run(path, CURVES, LEVELS, **given)


def rendered(path: Path, folder: Path) -> str:
    with Run.open(folder) as opened:
        page.render([RunAnalysis(opened)], path)
    return re.sub(r"\s+", " ", path.read_text("utf-8").replace("&nbsp;", " ").replace("\xa0", " "))


def test_the_notes_name_the_models_and_their_seeds(tmp_path: Path) -> None:
    with Run.open(run(tmp_path / "run")) as opened:
        results = RunAnalysis(opened)
        groups = results.groups.values()
        assert seed_notes(groups) == [NOTE]
        assert seed_range(groups).replace("\xa0", " ") == "50 % for 2 seeds and 75 % for 3 seeds"
        alone = [group for group in groups if len(group.members) == 1]
        assert seed_notes(alone) == []
        analysis = results.kinds["gaussian"]
        text = conclusions(analysis, axis("gaussian", "normalized", [0.2] * 3, levels=LEVELS))
        assert text[1] == NOTE


def test_the_report_shows_several_seeds_as_one_model(tmp_path: Path) -> None:
    text = rendered(tmp_path / "page.html", run(tmp_path / "run"))
    wide = text.split('<div class="plot wide">')[1].split("</svg>")[0]
    thin = re.findall(r"stroke-width: 0\.6", wide)
    assert len(thin) == 5  # the seeds of fp32 and fft85
    assert "thin lines of the same colour the single seeds" in text
    assert '<th scope="col">training seeds</th>' in text
    assert "<span>3<small>clean ±2.0, mean ±2.8</small></span>" in text
    shown = re.sub("<a download.*?>", "", text.split("<main>")[1].split("Provenance")[0])
    assert "fft85-seed1" not in shown
    assert "fft85-seed1" in text.split("Provenance")[1]
    assert "Welch's t-test over seeds and images if a model has several seeds" in text
    assert "Of a model of several training seeds, the first is shown." in text
    assert "One training seed." not in text
    assert f"<b>Training seeds.</b> {NOTE}" in text


def test_a_report_of_single_seeds_says_nothing_of_several(tmp_path: Path) -> None:
    curves = {model: CURVES[model] for model in ("fp32", "fft85", "fft50")}
    folder = invented.run(tmp_path / "run", curves, LEVELS, cards=invented.trained(curves))
    text = rendered(tmp_path / "page.html", folder)
    assert "One training seed." in text
    assert not any(word in text for word in ("Welch", "thin lines", "training seeds", "the first is shown"))


@pytest.mark.parametrize("kind", ["gaussian", "fgsm"])
def test_the_terminal_has_one_row_for_all_seeds(kind: str, tmp_path: Path, capsys) -> None:
    path = run(tmp_path / "run", kind=kind, space="normalized" if kind == "gaussian" else "pixel")
    with Run.open(path) as opened:
        results = RunAnalysis(opened)
        print_summary(results.kinds[kind])
        if kind == "fgsm":
            print_attacks(results)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("fft85 (3 seeds) ") and "83.0 %" in line for line in lines)
    assert any(line.startswith("fft50 ") and "seeds" not in line for line in lines)
    assert not any(line.startswith("fft85-seed") for line in lines)


def test_a_notebook_has_one_row_for_all_seeds(tmp_path: Path) -> None:
    with Run.open(run(tmp_path / "run")) as opened:
        results = RunAnalysis(opened)
        table = notebook.accuracies(results.kinds["gaussian"])
        assert table.loc["fft85"].tolist() == pytest.approx([0.83, 0.73, 1.6 / 3])
        assert "fft85-seed" not in notebook.fragment({"r": results})
