"""`blrobust export`: files for other programs, with the numbers of the run."""

import io
import sys

import pandas as pd
import pytest
from support import invented, invented_frequencies

import blrobust
from blrobust.cli import main

CURVES = {"fp32": [0.9, 0.2], "a_b|c&d": [0.8, 0.6]}


def export(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["export", *map(str, arguments)])
    return exit_.value.code, *capsys.readouterr()


@pytest.fixture
def made(tmp_path):
    return invented.run(tmp_path / "made", CURVES, [0.0, 1.0], n=20, draws=2)


def test_outcomes_of_every_image_as_csv(made, tmp_path, capsys):
    path = tmp_path / "out.csv"
    assert export(capsys, made, "--per-image", path) == (0, f"per image: {path}\n", "")
    table = pd.read_csv(path)
    expected = blrobust.open_run(made).per_image()
    assert list(table.columns) == list(expected.columns)
    assert len(table) == 20 * 2 * 2 * 2
    assert table.correct.tolist() == expected.correct.tolist()
    assert table.model.tolist() == expected.model.tolist()


def test_outcomes_of_every_image_as_parquet(made, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    path = tmp_path / "out.PARQUET"
    path.write_text("before")
    assert export(capsys, made, "--per-image", path) == (0, f"per image: {path}\n", "")
    pd.testing.assert_frame_equal(pd.read_parquet(path), blrobust.open_run(made).per_image())


def test_without_pyarrow_one_line_names_the_extra(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, out, err = export(capsys, made, "--per-image", tmp_path / "out.parquet")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "pip install 'blrobust[parquet]'" in err
    assert not (tmp_path / "out.parquet").exists()


def test_table_as_csv_is_results_csv(made, tmp_path, capsys):
    path = tmp_path / "out.csv"
    assert export(capsys, made, "--table", path) == (0, f"table: {path}\n", "")
    pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(io.StringIO(_results(made))))


def _results(folder):
    return blrobust.open_run(folder).table.drop(columns="level_label").to_csv(index=False)


def test_table_in_markdown(made, tmp_path, capsys):
    path = tmp_path / "out.md"
    assert export(capsys, made, "--table", path)[0] == 0
    header, rule, first, *others = path.read_text("utf-8").splitlines()
    assert header == "| model | kind | level | n | accuracy (%) | 95 % interval |"
    assert rule == "| --- | --- | ---: | ---: | ---: | ---: |"
    row = blrobust.open_run(made).table.iloc[0]
    interval = f"{100 * row.ci_low:.1f}–{100 * row.ci_high:.1f}"
    assert first == f"| fp32 | gaussian | 0 | 20 | {100 * row.accuracy:.1f} | {interval} |"
    assert others[-1].startswith(r"| a\_b\|c&d | gaussian | 1 | 20 |")
    assert len(others) == 3


def test_table_in_latex(made, tmp_path, capsys):
    path = tmp_path / "out.tex"
    assert export(capsys, made, "--table", path)[0] == 0
    begin, top, header, middle, *rows, bottom, end = path.read_text("utf-8").splitlines()
    assert (begin, end) == (r"\begin{tabular}{llrrrr}", r"\end{tabular}")
    assert (top, middle, bottom) == (r"\toprule", r"\midrule", r"\bottomrule")
    assert header == r"model & kind & level & n & accuracy (\%) & 95 \% interval \\"
    assert len(rows) == 4
    assert rows[-1].startswith(r"a\_b\textbar{}c\&d & gaussian & 1 & 20 & ")


@pytest.mark.parametrize("make", [invented_frequencies.heatmap, invented_frequencies.recovery])
@pytest.mark.parametrize("suffix", ["csv", "md", "tex"])
def test_other_runs_keep_all_columns(make, suffix, tmp_path, capsys):
    folder, path = make(tmp_path / "run"), tmp_path / f"out.{suffix}"
    assert export(capsys, folder, "--table", path)[0] == 0
    table = blrobust.open_run(folder).table
    text = path.read_text("utf-8").replace("\\", "")
    assert all(name in text for name in table.columns)
    assert len(text.splitlines()) >= len(table) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got neither"),
        (["--per-image", "out.xlsx"], "legal: a name that ends in .parquet or .csv"),
        (["--table", "out"], "legal: a name that ends in .csv or .md or .tex"),
        (["--table", "no/out.csv"], "a file in a folder that exists (no does not)"),
        (["--table", "x.csv", "--per-image", "x.csv"], "the file of --per-image"),
    ],
)
def test_bad_input_is_one_line(made, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = export(capsys, made, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_run_in_runs_has_a_name(made, tmp_path, capsys, monkeypatch):
    (tmp_path / "runs").mkdir()
    made.rename(tmp_path / "runs" / "made")
    monkeypatch.chdir(tmp_path)
    assert export(capsys, "made", "--table", "out.md")[0] == 0
    assert export(capsys, "absent", "--table", "out.md")[0] == 2


def test_outcomes_of_a_heat_map_are_refused(tmp_path, capsys):
    folder = invented_frequencies.heatmap(tmp_path / "run")
    code, _, err = export(capsys, folder, "--per-image", tmp_path / "out.csv")
    assert (code, err.count("\n")) == (2, 1)
