import contextlib
import re
from types import SimpleNamespace

import pytest
from support import invented

from blrobust import progress
from blrobust.analysis.analysis import Analysis
from blrobust.cli import results
from blrobust.runs.run import Run


def show(path, curves, **options):
    with Run.open(invented.run(path, curves, [0.0, 1.0], n=200, is_exact=True, **options)) as run:
        results.print_summary(Analysis(run, "gaussian"))


def test_the_table_escapes_names_and_says_what_is_missing(tmp_path, capsys):
    curves = {"fp32": [0.9, 0.3], "[bold]mine[/bold]": [0.9, 0.6], "fft50": [0.4, 0.3]}
    show(tmp_path / "run", curves, dataset="folder:[red]x")
    shown = capsys.readouterr().out
    assert "[bold]mine[/bold]" in shown
    assert "folder:[red]x, n = 200, one draw" in shown
    assert "90.0 %" in shown
    assert "eff. 0.515" in shown
    assert "better at 1 of 2 levels," in shown
    assert "worse at no level" in shown
    assert "> 1" in shown
    assert "below 50 % from the start" in shown
    assert "0.667" in shown
    assert "nan" not in shown
    show(tmp_path / "unfinished", curves, cells=3)
    assert "nan" not in capsys.readouterr().out


def test_a_calibrated_model_shows_its_effective_compression(tmp_path, capsys):
    curves = {"calibrated": [0.9, 0.3], "fp32": [0.9, 0.3]}
    show(tmp_path / "run", curves, cards={"calibrated": {"effective_compression": 0.515}})
    shown = capsys.readouterr().out
    assert "eff. 0.515" in shown
    assert shown.count("none") == 1


def test_one_model_is_compared_with_none(tmp_path, capsys):
    show(tmp_path / "run", {"fft85": [0.9, 0.3]})
    assert "against" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kinds", "lines"), [(["pixel"], ["fp32", "[b]x"]), (["pixel", "fgsm"], ["pixel fp32", "pixel [b]x"])]
)
def test_without_a_terminal_progress_is_a_line_per_model(capsys, kinds, lines):
    with progress.Meter(images=30, kinds=kinds) as meter:
        for name in ("fp32", "fp32", "[b]x"):
            meter.begin(name, images=10, kind="pixel", levels=["0.1"])
            meter.advance(10)
    shown = capsys.readouterr()
    assert [line.split(":")[0] for line in shown.err.splitlines()] == lines
    assert shown.out == ""


@pytest.fixture
def last_lines(capsys, monkeypatch):
    """The last lines that `act` leaves on a terminal, with a clock that only `act` moves."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    clock = SimpleNamespace(now=1000.0)

    def show(act, *, columns, reporter=progress.Meter, count=3, **given):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.now)
        with contextlib.suppress(KeyboardInterrupt), reporter(**given) as meter:
            act(meter, clock)
            raise KeyboardInterrupt
        written = capsys.readouterr().err
        end = written.rpartition("\n")[2]
        assert end.count("\x1b[2K") == count, "lines erased"
        assert "\x1b[?25l" not in written, "cursor never hidden"
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).replace("\r", "\n").splitlines()
        lines = [line for line in lines if line][-count:]
        assert [len(line) for line in lines] == [columns] * count
        return [re.sub(r"\s*[━╸╺]+\s*| {2,}", " | ", line) for line in lines]

    return show


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_shows_the_run_and_its_cell_and_both_times_to_go(last_lines, columns):
    def act(meter, clock):
        meter.begin("fp32", images=1000, kind="pixel", levels=["0"])
        clock.now += 100
        meter.advance(1000)
        meter.begin("fft85, draw 1", images=1000, kind="square-linf", levels=["8/255"])
        clock.now += 50
        meter.advance(200)
        clock.now += 20  # counted down since

    # 1200 images took 150 s, so 84,800 take 10,600; 200 took 50 s, so 800 take 200.
    assert last_lines(act, columns=columns, images=98_000, done=12_000, kinds=["pixel", "square-linf"]) == [
        "run, kind 2 of 2 | 13200/98000 images, 2:56:20 to go",
        "fft85, draw 1 | 200/1000 images, 0:03:00 to go",
        "square-linf at 8/255 | 0:01:10",
    ]


def test_a_search_for_all_strengths_counts_its_images_once(last_lines):
    def act(meter, clock):
        meter.begin("fp32", images=300, kind="deepfool-l2", levels=["0", "0.1", "0.25"])
        clock.now += 1
        meter.advance(3 * 100)

    assert last_lines(act, columns=80, images=900, kinds=["deepfool-l2"]) == [
        "run | 300/900 images, 0:00:02 to go",
        "fp32 | 100/300 images, 0:00:02 to go",
        "deepfool-l2 at 0, 0.1, 0.25 | 0:00:01",
    ]


def test_passes_move_while_a_block_is_under_way(last_lines):
    counter = SimpleNamespace(passes=5)  # those of the cell before

    def act(meter, clock):
        meter.begin("fp32", images=100, kind="nes", levels=["0.1"])
        counter.passes += 1300
        clock.now += 3700

    assert last_lines(act, columns=60, images=400, passes=lambda: counter.passes) == [
        "run | 0/400 images, -:--:-- to go",
        "fp32 | 0/100 images, -:--:-- to go",
        "nes at 0.1 | 1,300 passes, 1:01:40",
    ]


def test_the_numbers_fit_into_60_columns_and_go_on_after_a_stop(last_lines):
    def act(meter, clock):
        meter.begin("a label of many words that fits into no terminal", images=99_000, done=12_000)
        clock.now += 1
        meter.advance(345)

    lines = last_lines(act, columns=60, images=99_000, done=12_000)
    assert lines[0] == "run | 12345/99000 images, 0:04:11 to go"
    assert lines[1] == "a label of many wor… | 12345/99000 images, 0:04:11 to go"


def test_a_time_that_has_run_out_is_not_shown_as_none_to_go(last_lines):
    def act(meter, clock):
        meter.begin("fp32", images=400)
        clock.now += 1
        meter.advance(100)  # three seconds to go
        clock.now += 10

    assert last_lines(act, columns=60, images=400)[0] == "run | 100/400 images, -:--:-- to go"


def test_many_strengths_are_cut_short(last_lines):
    def act(meter, clock):
        meter.begin("fp32", images=5, kind="boundary", levels=[f"{0.1 * i:.4g}" for i in range(30)])

    assert last_lines(act, columns=60, images=5)[2].endswith("… 0:00:00")


def test_steps_are_one_bar_whose_pace_is_that_of_this_session(last_lines):
    def act(steps, clock):
        steps.update(1001, 3000, "epoch 3, loss 0.4123")
        clock.now += 100
        steps.update(1101, 3000, "epoch 3, loss 0.4101")

    assert last_lines(act, columns=70, reporter=progress.Steps, count=1) == [
        "epoch 3, loss 0.4101 | 1101/3000 steps, 0:31:20 to go"
    ]


def test_without_a_terminal_steps_are_a_line_at_every_tenth(capsys):
    with progress.Steps() as steps:
        for done in range(1, 31):
            steps.update(done, 30, f"epoch {done // 10}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == ["10 %: epoch 0", "20 %: epoch 0", "30 %: epoch 0", "40 %: epoch 1"]
    assert lines[4:] == [f"{tenth}0 %: epoch {tenth * 3 // 10}" for tenth in range(5, 11)]
