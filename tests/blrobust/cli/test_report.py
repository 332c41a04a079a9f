import re
from xml.etree import ElementTree

import pytest
from support import invented, invented_frequencies

from blrobust.cli import main
from blrobust.cli.presentation import present

CURVES = {"fp32": [0.9, 0.2], "fft85": [0.8, 0.6]}
LEVELS = [0.0, 1.0]


def run(capsys, *args):
    with pytest.raises(SystemExit) as caught:
        main(["report", *map(str, args)])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.fixture
def made(tmp_path):
    return invented.run(tmp_path / "made", CURVES, LEVELS)


def test_one_run_is_rendered_into_its_folder(made, capsys):
    before = {p.name: p.read_bytes() for p in made.iterdir()}
    assert run(capsys, made) == (0, f"report: {made / 'report.html'}\n", "")
    assert "Accuracy under Gaussian noise" in (made / "report.html").read_text("utf-8")
    after = {p.name: p.read_bytes() for p in made.iterdir()}
    assert {**before, "report.html": after["report.html"]} == after


def test_output_names_another_file(made, tmp_path, capsys):
    output = tmp_path / "mine.html"
    assert run(capsys, made, "--output", output) == (0, f"report: {output}\n", "")
    assert output.stat().st_size > 10_000
    assert not (made / "report.html").exists()


def test_figures_and_tables_are_files(made, tmp_path, capsys):
    figures, tables = tmp_path / "new" / "figures", tmp_path / "tables"
    code, out, err = run(capsys, made, "--figures", figures, "--tables", tables)
    assert (code, err) == (0, "")
    assert out == f"report: {made / 'report.html'}\nfigures: {figures}\ntables: {tables}\n"
    (figure,) = figures.iterdir()
    assert figure.name == "accuracy-under-gaussian-noise.svg"
    text = figure.read_text("utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "var(" not in text
    assert "#0072b2" in text
    names = {path.stem for path in tables.iterdir()}
    assert {path.suffix for path in tables.iterdir()} == {".md", ".tex"}
    assert {"accuracy-of-each-model", "accuracy-of-each-model-at-each-level"} <= names
    rows = (tables / "accuracy-of-each-model.md").read_text("utf-8").splitlines()
    assert rows[0].startswith("| model | nominal compression | effective compression | clean accuracy |")
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| fp32", "| fft85"]
    assert re.search(r"\d\d\.\d\xa0% \(\d\d\.\d to \d\d\.\d\)", rows[2])
    assert r"\begin{tabular}" in (tables / "accuracy-of-each-model.tex").read_text("utf-8")
    (tmp_path / "file").write_text("x")
    code, _, err = run(capsys, made, "--figures", tmp_path / "file")
    assert code == 2
    assert err.startswith("Error: ")


def test_several_runs_are_compared_in_the_current_folder(made, tmp_path, capsys, monkeypatch):
    other = invented.run(tmp_path / "other", CURVES, LEVELS, kind="pixel", space="pixel", cells=3)
    monkeypatch.chdir(tmp_path)
    assert run(capsys, made, "other") == (0, "report: report.html\n", "")
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "2 runs compared" in html
    assert "Unfinished:" in html
    assert other.is_dir()


def test_the_baseline_is_named_in_sentences_and_tables(made, capsys):
    assert run(capsys, made)[0] == 0
    text = (made / "report.html").read_text("utf-8")
    assert "against fp32</th>" in text
    assert "fft85 minus fp32" in text
    assert run(capsys, made, "--baseline", "fft85")[0] == 0
    text = (made / "report.html").read_text("utf-8")
    assert "against fft85</th>" in text
    assert "fp32 minus fft85" in text
    assert "fft85 minus fp32" in text  # the claim on band limits has its own table
    assert "than fp32" not in text
    assert run(capsys, made, "--baseline", "x")[2] == "Error: --baseline: got 'x'; legal: fp32, fft85\n"


@pytest.mark.parametrize("name", ["fp32", "<b>'\"&"])
def test_a_plain_command_does_not_keep_the_page_of_another_baseline(name, tmp_path, capsys):
    made = invented.run(tmp_path / "made", {name: [0.9, 0.2], "fft85": [0.8, 0.6]}, LEVELS)
    report = made / "report.html"

    def written(baseline=None):
        before = report.stat().st_mtime_ns if report.exists() else None
        present(made, lambda results: None, baseline=baseline, open_report=False)
        return report.stat().st_mtime_ns != before

    assert written()
    assert not written()  # up to date
    assert not written(name)  # the same baseline
    plain = report.read_bytes()
    assert written("fft85")
    assert "against fft85</th>" in report.read_text("utf-8")
    assert not written("fft85")
    assert written()
    assert report.read_bytes() == plain
    run(capsys, made, "--baseline", "fft85")  # of this command too
    assert written()
    assert report.read_bytes() == plain
    other = invented.run(tmp_path / "other", CURVES, LEVELS)
    run(capsys, made, other, "--output", report)
    assert written()
    assert report.read_bytes() == plain


def test_open_opens_the_report(made, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("click.launch", lambda path: opened.append(path) or 0)
    assert run(capsys, made, "--open")[0] == 0
    assert opened == [str(made / "report.html")]
    monkeypatch.setattr("click.launch", lambda path: 3)
    code, _, err = run(capsys, made, "--open")
    assert (code, err) == (0, "no program was found that opens it\n")


def test_bad_input_is_one_line(made, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    broken = invented.run(tmp_path / "broken", CURVES, LEVELS)
    (broken / "run.sqlite").write_bytes(b"not a database" * 100)
    torn = invented.run(tmp_path / "torn", CURVES, LEVELS)
    (torn / "run.json").write_text('{"config":')
    for args in (
        [],
        [tmp_path / "missing"],
        [tmp_path / "empty"],
        [tmp_path / "file"],
        [broken],
        [torn],
        [made, made],
        [made, made / ".." / "made"],
        [made, tmp_path / "missing"],
        [made, "--output", tmp_path],
        [made, "--output", tmp_path / "no" / "such" / "folder.html"],
        [made, "--nonsense"],
        [made, "--baseline", "fp16"],
    ):
        code, out, err = run(capsys, *args)
        assert (code, out) == (2, ""), args
        assert err.startswith("Error: "), args
        assert err.count("\n") == 1, args
    assert not (made / "report.html").exists()


FREQUENCIES = {
    "heatmap": (invented_frequencies.heatmap, "Error under single frequencies"),
    "recover": (invented_frequencies.recovery, "Labels recovered from adversarial inputs"),
}


@pytest.mark.parametrize("command", FREQUENCIES)
@pytest.mark.parametrize("cells", [None, 0, 4, 7])
def test_heat_maps_and_recoveries_are_rendered(command, cells, tmp_path, capsys):
    make, title = FREQUENCIES[command]
    if (command, cells) == ("recover", 7):
        pytest.skip("has six cells")
    folder = make(tmp_path / "run", cells=cells)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert run(capsys, folder) == (0, f"report: {folder / 'report.html'}\n", "")
    html = (folder / "report.html").read_text("utf-8")
    assert title in html
    assert ("Unfinished:" in html) == (cells is not None)
    assert ("blrobust heatmap --models a,b" in html) == (command == "heatmap")
    after = {p.name: p.read_bytes() for p in folder.iterdir()}
    if cells is None:
        assert {**before, "report.html": after["report.html"]} == after


@pytest.mark.parametrize("command", FREQUENCIES)
def test_unlike_runs_are_not_compared(command, made, tmp_path, capsys):
    folder = FREQUENCIES[command][0](tmp_path / "run")
    for pair in ((made, folder), (folder, made)):
        code, out, err = run(capsys, *pair, "--output", tmp_path / "both.html")
        assert (code, out) == (2, "")
        assert err == f"Error: {folder}: got a run of {command}; legal: noise or attack\n"
    code, _, err = run(capsys, folder, "--baseline", "a")
    assert code == 2
    assert err == (
        f"Error: --baseline: got 'a' for {folder}, a run of {command}; legal: runs of noise or attack\n"
    )


def test_a_run_is_named_by_the_beginning_of_its_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1cb0f1f49167", "1cb0aaaaaaaa"):
        invented.run(tmp_path / "runs" / name, CURVES, LEVELS)
    assert run(capsys, "1cb0f") == (0, "report: runs/1cb0f1f49167/report.html\n", "")
    code, out, err = run(capsys, "1cb0")
    assert (code, out) == (2, "")
    assert err.startswith("Error: RUN: got '1cb0', which fits 2 runs: 1cb0aaaaaaaa, 1cb0f1f49167; legal: ")
    assert len(err.splitlines()) == 1
