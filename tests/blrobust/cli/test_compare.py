"""`blrobust compare`: the paired differences between two runs, as a table and as JSON."""

import json

import pytest
from support import invented, invented_frequencies

import blrobust
from blrobust.cli import main

LEVELS = [0.0, 1.0]


def compare(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["compare", *map(str, arguments)])
    return exit_.value.code, *capsys.readouterr()


@pytest.fixture
def made(tmp_path):
    first = {"fp32": [0.9, 0.2], "fft85": [0.8, 0.6]}
    second = {"fft85": [0.8, 0.1], "mine": [0.7, 0.7]}
    return [
        invented.run(tmp_path / name, curves, LEVELS, n=400, is_exact=True)
        for name, curves in (("a", first), ("b", second))
    ]


def pairs(text):
    return list(dict.fromkeys((row["model"], row["baseline"]) for row in json.loads(text)))


def test_models_of_the_same_name_are_compared_and_others_with_the_baseline(made, capsys):
    code, out, err = compare(capsys, *made, "--json")
    assert (code, err) == (0, "")
    assert pairs(out) == [("fft85", "fft85"), ("mine", "fp32")]


def test_a_baseline_is_for_all_models(made, capsys):
    assert pairs(compare(capsys, *made, "--json", "--baseline", "fft85")[1]) == [
        ("fft85", "fft85"),
        ("mine", "fft85"),
    ]


def test_json_has_the_rows_of_the_python_interface(made, capsys):
    rows = json.loads(compare(capsys, *made, "--json", "--baseline", "fp32")[1])
    table = blrobust.compare(*made).paired()
    expected = table[table.baseline == "fp32"].to_dict("records")
    assert rows == expected
    assert list(rows[0]) == list(table.columns)


def test_the_table_has_a_row_per_level(made, capsys):
    code, out, err = compare(capsys, *made)
    assert (code, err) == (0, "")
    assert "gaussian: fft85 in B minus fft85 in A" in out
    (row,) = (line for line in out.splitlines() if "-50.0" in line)
    assert "worse" in row
    assert "gaussian: mine in B minus fp32 in A" in out
    assert "+50.0" in out


def test_bad_input_is_one_line(made, tmp_path, capsys):
    other = invented.run(tmp_path / "c", {"fp32": [0.9]}, [3.0], n=400, is_exact=True)
    heatmap = invented_frequencies.heatmap(tmp_path / "d")
    for arguments, message in [
        ([*made, "--baseline", "mine"], "--baseline: got 'mine'; legal: fp32, fft85"),
        (
            [made[0], other],
            "A, B: got a (gaussian at 0 to 1) and c (gaussian at 3); legal: runs with a common",
        ),
        ([made[0], heatmap], "a run of heatmap; legal: noise or attack"),
        ([made[0], made[0]], "more than once"),
        ([made[0], "absent"], "which does not exist"),
    ]:
        code, out, err = compare(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_strengths_are_fractions_where_they_are_pixels(tmp_path, capsys):
    for name in "ab":
        invented.run(tmp_path / name, {"fp32": [0.9, 0.2]}, [0.0, 2 / 255], kind="pgd-linf", space="pixel")
    assert "\n2/255 " in compare(capsys, tmp_path / "a", tmp_path / "b")[1]


def test_what_differs_between_the_runs_is_named(tmp_path, capsys):
    curves = {"fp32": [0.9, 0.5, 0.2]}
    invented.run(tmp_path / "a", curves, [0.0, 0.5, 1.0], n=120)
    invented.run(tmp_path / "b", curves, [0.0, 0.5, 2.0], n=120, draws=3)
    out = compare(capsys, tmp_path / "a", tmp_path / "b")[1]
    assert out.splitlines()[:2] == [
        "gaussian, normalized space: cifar10, n = 120",
        "gaussian: fp32 in B minus fp32 in A",
    ]
    assert out.splitlines()[-3:] == [
        "A and B have different settings: draws per image (A 1, B 3). Differences may come from these.",
        "Only the first draw of B is compared; it has 3.",
        "Not compared, as only one run has it: sigma 1 (A); sigma 2 (B). "
        "The p-values are adjusted over the shared levels only.",
    ]
    invented.run(tmp_path / "c", curves, [0.0, 0.5, 1.0], n=120)
    assert "settings" not in compare(capsys, tmp_path / "a", tmp_path / "c")[1]


def test_runs_of_noise_and_attacks_together_are_refused(tmp_path, capsys):
    for name, kinds in (("noise", {"fp32": [0.9, 0.5]}), ("attack", {"fp32": [0.9, 0.4]})):
        invented.run(tmp_path / "both" / name, kinds, [0, 1], n=100, is_exact=True)
    single = invented.run(tmp_path / "one", {"fp32": [0.9, 0.5]}, [0, 1], n=100, is_exact=True)
    code, _, err = compare(capsys, tmp_path / "both", single)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "legal: two of the folders" in err
