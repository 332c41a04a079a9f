from dataclasses import replace
from pathlib import Path

import convolution
import goals
import host_time
import missed_goals
import pytest
import report
import torch
import training_modes
import training_step
from case import Case, Row, measure
from peers import complex_einsum, recipe
from shapes import Cut, Layer

from blconv.reference import band_limited_conv2d


@pytest.mark.parametrize("peer", [recipe, complex_einsum])
@pytest.mark.parametrize("cut", [Cut(0.5, "compact"), Cut(0.85, "paper"), Cut(0.0, "compact")], ids=str)
@pytest.mark.parametrize("layer", [Layer(3, 9, 4), Layer(3, 8, 4, stride=2), Layer(2, 11, 3, 7)], ids=str)
def test_peers_that_are_the_layer_compute_it(layer, cut, peer):
    x, weight = torch.randn(layer.input_shape(2)), torch.randn(layer.weight_shape)
    expected = band_limited_conv2d(
        x.double(), weight.double(), stride=layer.stride, padding=layer.padding,
        compression=cut.compression, fft_size=cut.fft_size,
    )  # fmt: skip
    torch.testing.assert_close(peer(x, weight, layer, cut).double(), expected, rtol=0, atol=2e-5)


def test_a_peer_that_fails_costs_its_cell(monkeypatch):
    monkeypatch.setattr("case.set_precision", lambda name: None)  # it would last for the other tests
    names = ("dense NCHW", "paper's Hadamard kernel", "lowpass NCHW")
    layer = Layer(2, 40, 20)
    case = Case("group", layer, "strict", 2, (Cut(0.5, "compact"),), names, "both", "cpu", 1e10, 1)
    rows = {row.peer: row for row in measure(case)}
    assert rows["dense NCHW"].note == "lowpass stands in"
    assert rows["paper's Hadamard kernel"].ms is None
    assert rows["paper's Hadamard kernel"].note
    ordinary, lowpass = rows["ordinary NCHW"], rows["lowpass NCHW"]
    assert ordinary.saved == 1.0  # the input itself
    assert lowpass.saved == pytest.approx((42 / 40) ** 2, rel=1e-3)  # the filtered input with its padding
    assert lowpass.ms is not None
    assert lowpass.ms > 0
    table = "\n".join(report.tables(list(rows.values())))
    assert "lowpass stands in" in table
    assert "| lowpass NCHW |" in table


def test_goals_take_the_better_layout_and_wait_for_all_layers():
    goal = goals.GOALS["cpu"][0]
    (cut,), (group,) = goal.cuts, goal.groups
    batch = goal.batch_of(group)
    rows = [
        Row(group, str(layer), goal.precision, batch, goal.passes, cut.compression, "compact", peer,
            ms=1.0, ratio=value)
        for peer, values in {goals.OURS[0]: [1, 2, 4, 8], goals.OURS[1]: [2, 2, 2, 2]}.items()
        for layer, value in zip(goals.GROUPS[group].layers, values, strict=True)
    ]  # fmt: skip
    assert goal.measured(rows) == (pytest.approx(2.0), "channels_last")
    assert goal.measured(rows[:4]) == (pytest.approx(64**0.25), "NCHW")
    assert goal.measured(rows[:3]) is None
    failed = [replace(row, ms=None, ratio=None) for row in rows[4:]]
    assert goal.measured(rows[:4] + failed) == (pytest.approx(64**0.25), "NCHW")
    assert {case.batch for case in goals.cases("cpu", 1, 1.0)} == {32}


def test_results_are_read_back_and_fill_a_document(tmp_path):
    rows = [Row("group", "layer", "tf32", 512, "both", 0.5, "compact", "peer", ms=1.5, ratio=0.5)]
    report.write(tmp_path / "results.json", {"device": "none"}, rows)
    assert report.read(tmp_path / "results.json") == ({"device": "none"}, rows)
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- table: a -->\n<!-- end -->\nafter\n")
    for _ in range(2):
        report.fill(document, "a", ["| 1 |"])
    assert document.read_text() == "before\n<!-- table: a -->\n\n| 1 |\n\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="table: b"):
        report.fill(document, "b", [])


def test_means_of_peers_are_those_of_the_better_layout_and_name_missing_layers():
    def row(peer, layer, ratio, compression=0.5):
        return Row("g", layer, "tf32", 8, "both", compression, "compact", peer, ms=ratio, ratio=ratio)

    rows = [row("ordinary NCHW", layer, 1.0, 0.0) for layer in ("a", "b")]
    rows += [
        row(f"auto {layout}", layer, 0.5) for layout in ("NCHW", "channels_last") for layer in ("a", "b")
    ]
    assert not any("| peer | 50%" in line for line in report.summary(rows))
    rows += [row("paper NCHW", "a", 2.0), row("paper NCHW", "b", 8.0), row("paper channels_last", "a", 1.0)]
    rows += [row("paper channels_last", "b", None), row("einsum", "a", 3.0), row("einsum", "b", None)]
    rows += [row("einsum", "a", 4.0, 0.85)]
    lines = report.summary(rows)
    assert "| peer | 50%, compact | 85%, compact |" in lines
    assert "| paper | 4.00 | - |" in lines
    assert "| einsum | 3.00 (1 of 2) | 4.00 (1 of 2) |" in lines
    assert not any("paper NCHW" in line for line in lines)
    assert any("paper NCHW" in line for line in report.tables(rows))


def test_only_what_has_no_time_is_measured_again():
    layer, cuts = Layer(2, 8, 3), (Cut(0.5, "compact"), Cut(0.85, "compact"))
    case = Case("g", layer, "tf32", 8, cuts, ("recipe", "einsum"), "both", "cpu", 1.0, 1)
    rows = [
        Row("g", str(layer), "tf32", 8, "both", cut.compression, "compact", peer, ms=ms)
        for cut, peer, ms in [(cuts[0], "recipe", 1.0), (cuts[0], "einsum", 2.0), (cuts[1], "recipe", None)]
    ]
    (found,) = convolution._without_time([case], {report.key(row): row for row in rows})
    assert found == replace(case, cuts=cuts[1:])


def test_the_documentation_has_a_place_for_every_table():
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    names = ["goals-cuda", "goals-cpu", "convolution-cuda", "convolution-cpu"]
    names += ["training_step-cuda", "training_modes-cuda", "host_time-cuda", "missed-goals"]
    assert all(text.count(f"<!-- table: {name} -->") == 1 for name in names)
    assert text.count("<!-- table: ") == text.count("<!-- end -->")


def test_every_missed_goal_has_a_limit_that_the_documentation_explains():
    results = Path(report.__file__).parent / "results"
    where, rows = report.read(results / "convolution-cuda.json")
    modes = training_modes.read(results / "training_modes-cuda.json")[1]
    host = [host_time.Row("alone", "fft85", "convolution, forward", 106.0)]
    host += [
        host_time.Row("step", network, list(host_time.STEPS)[-1], us)
        for network, us in {"ordinary": 8.0, "fft50": 10.0, "fft85": 12.0}.items()
    ]
    steps = [
        training_step.Row("tf32", "fft85, fused", 1.0, 0.66),
        training_step.Row("tf32", "fft85", 1.0, 0.9),
    ]
    lines = missed_goals.table(where, rows, modes, steps, host)[2:]
    text = (results.parents[1] / "docs" / "performance.md").read_text()
    limits = {limit for line in lines for limit in line.split(" | ")[-1].removesuffix(" |").split(", ")}
    assert all(f"\n- **{limit}**: " in text for limit in limits)
    missed = [goal.name for goal in goals.GOALS["cuda"] if (goal.measured(rows) or (0.0,))[0] > goal.must]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[: len(missed)]] == missed
    assert "| convolution, forward, us of host time | 60 | 106 | - | host |" in lines
    assert any(line.startswith("| eager, batch 128 | 1.25 | ") and "1.25 to 1.50" in line for line in lines)


def test_the_bound_of_a_layer_is_the_time_of_its_bytes():
    layer, cut = Layer(2, 4, 3), Cut(0.9, "compact")  # 6 points, 4 frequencies, 1 kept: the mean
    assert missed_goals._numbers(layer, cut, 8, "spectral") == 2 * 8 * 16 * 5 + 5 * 8 * 5 + 6 * 6
    assert missed_goals._numbers(layer, cut, 8, "lowpass") == 2 * 8 * 2 * (16 + 36)
