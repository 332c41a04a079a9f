import csv
import json
import os
import sqlite3
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from support import stand_in

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.errors import UserError
from blrobust.evaluation import sweep
from blrobust.perturbations.noise import Noise
from blrobust.runs.lock import LOCK, acquire
from blrobust.runs.packed_arrays import unpack
from blrobust.runs.run import Run

CPU = torch.device("cpu")
LEVELS = (0.0, 0.5, 1.0)
PROBE, DOUBTS, AFTER = 2, 36, 1  # forward passes before those of the cells, in new runs, and after them


def models():
    return [stand_in.model(name, seed=i) for i, name in enumerate(("a", "b"))]


def run(path, *, subjects=None, data=None, levels=LEVELS, draws=2, perturbation=None, **options):
    data = data or stand_in.dataset()
    noise = perturbation or Noise("gaussian", space="normalized", dataset=data, seed=0, device=CPU)
    return sweep.execute(
        [sweep.Part(noise, levels)],
        command="noise",
        models=subjects or models(),
        dataset=data,
        draws=draws,
        seed=0,
        arch="tiny",
        device=CPU,
        out=path,
        **options,
    )


def cells(path):
    """Everything measured except times, read with SQL alone."""
    database = sqlite3.connect(path / "run.sqlite")
    rows = database.execute(
        "SELECT model, kind, level, draw, n, correct, forwards, backwards, outcomes FROM cells"
        " ORDER BY model, kind, level, draw"
    ).fetchall()
    database.close()
    return rows


def table(path):
    with (path / "results.csv").open() as file:
        return [{**row, "seconds": None} for row in csv.DictReader(file)]


def test_predictions_equal_a_plain_loop_over_noise_from_numpy(tmp_path):
    data, subjects = stand_in.dataset(), models()
    run(tmp_path, subjects=subjects, data=data)
    pixels = data.images.double() / 255
    with Run.open(tmp_path) as stored:
        for draw in range(2):
            keys = ([0, 0, draw, sample] for sample in range(len(data)))
            sources = [np.random.Philox(np.random.SeedSequence(key)) for key in keys]
            z = [np.random.Generator(s).standard_normal((2, 6, 6), np.float32) for s in sources]
            for level in LEVELS:
                std = torch.tensor(stand_in.STD).view(-1, 1, 1)
                noisy = pixels + level * std * torch.tensor(np.stack(z)).double()
                for subject in subjects:
                    logits = torch.nn.functional.conv2d(noisy, subject.module.weight.double())
                    logits = logits.mean((2, 3))
                    stored_classes = stored.outcome(subject.label, "gaussian", level, draw)
                    top = logits.topk(2, dim=1).values
                    clear = (top[:, 0] - top[:, 1] > 1e-5).numpy()
                    assert clear.sum() > 240
                    wanted = logits.argmax(1).numpy()
                    assert (stored_classes["prediction"] == wanted)[clear].all()
        accuracy = [float(row["accuracy"]) for row in table(tmp_path)]
        assert accuracy[0] == stored.correct("a", "gaussian", 0.0).mean()


def test_predictions_do_not_depend_on_the_batch_size(tmp_path):
    for size in (1, 7, 100, 1000):
        run(tmp_path / str(size), batch_size=size)
    first = cells(tmp_path / "1")
    assert len(first) == 2 * 3 * 2
    assert cells(tmp_path / "1000") == cells(tmp_path / "100")
    for size in (7, 100):  # parts of a block sum in another order, which changes the last bits of logits
        for row, other in zip(cells(tmp_path / str(size)), first, strict=True):
            assert row[:-1] == other[:-1]
            found, wanted = unpack(row[-1], 250), unpack(other[-1], 250)
            assert np.array_equal(found.pop("prediction"), wanted.pop("prediction"))
            for name, values in wanted.items():
                np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=1e-5)
        assert table(tmp_path / str(size)) == table(tmp_path / "1")


@pytest.mark.parametrize(("n", "block"), [(60, 60), (100, 100), (250, 100)])
def test_networks_see_blocks_of_one_size_only(tmp_path, n, block):
    subjects = models()
    run(tmp_path, subjects=subjects, data=stand_in.dataset(n), draws=1)
    assert set(subjects[0].module.batches[PROBE + DOUBTS : -AFTER]) == {block}
    assert {row[4] for row in cells(tmp_path)} == {n}
    assert {row[6] for row in cells(tmp_path)} == {n}, "forwards"


def test_the_run_is_finished_and_complete(tmp_path, capsys):
    assert run(tmp_path) == tmp_path
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {"run.json", "run.sqlite", "lock", "results.csv"}
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["started"] <= record["finished"]
    assert record["config"]["kinds"] == {"gaussian": {"levels": list(LEVELS)}}
    assert record["config"]["models"][1] == {"label": "b", "sha256": f"{1:064d}"}
    assert "batch_size" not in record["config"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a, draw 1" in shown.err


def test_the_default_folder_is_named_by_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = run(None)
    assert path == Path("runs") / json.loads((path / "run.json").read_text())["hash"][:12]
    assert run(None, batch_size=7) == path
    assert run(None, draws=1) != path


def test_a_finished_run_is_left_as_it_is(tmp_path):
    run(tmp_path)

    def state():
        return {
            entry: (entry.stat().st_mtime_ns, entry.stat().st_size, entry.stat().st_ino)
            for entry in (tmp_path, *tmp_path.iterdir())
        }

    before, subjects = state(), models()
    run(tmp_path, subjects=subjects)
    assert state() == before
    assert len(subjects[0].module.batches) == PROBE


def test_a_removed_table_of_a_finished_run_comes_back(tmp_path):
    run(tmp_path)
    table = (tmp_path / "results.csv").read_bytes()
    (tmp_path / "results.csv").unlink()
    run(tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == table


@pytest.mark.parametrize("after", [0, 5, 11])
def test_a_run_cut_short_by_ctrl_c_goes_on_where_it_stopped(tmp_path, monkeypatch, after):
    run(tmp_path / "whole")
    add = Run.add

    def interrupted(self, *args, **kwargs):
        if len(self.done()) == after:
            raise KeyboardInterrupt
        add(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    with Run.open(tmp_path / "cut") as cut:
        assert len(cut.done()) == after
        assert not cut.finished
    subjects = models()
    run(tmp_path / "cut", subjects=subjects)
    assert sum(len(subject.module.batches) - PROBE - AFTER for subject in subjects) == (12 - after) * 3
    assert cells(tmp_path / "cut") == cells(tmp_path / "whole")
    assert table(tmp_path / "cut") == table(tmp_path / "whole")
    assert len(json.loads((tmp_path / "cut" / "run.json").read_text())["sessions"]) == 2


def test_a_table_that_fails_costs_no_cell(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunAnalysis, "write_csv", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path)
    assert len(cells(tmp_path)) == 12
    subjects = models()
    run(tmp_path, subjects=subjects)
    assert len(subjects[0].module.batches) == PROBE + AFTER
    assert len(table(tmp_path)) == 6


def test_a_second_process_on_the_folder_is_refused(tmp_path):
    with acquire(tmp_path / LOCK, "free"), pytest.raises(UserError, match="another process"):
        run(tmp_path)
    run(tmp_path)
    assert len(cells(tmp_path)) == 12


class Passes:
    """A perturbation that says how often it asked the network."""

    kind = "stand-in"
    space = "pixel"
    one_search_for_all_levels = False
    passes = 0

    def measure(self, model, pixels, labels, *, levels, draw, samples, keep):
        numbers = torch.arange(samples.start, samples.stop, dtype=torch.int32)
        answer = {
            "prediction": labels.to(torch.int16),
            "forwards": numbers,
            "backwards": 2 * numbers,
            "success": numbers % 2 == 0,
        }
        return [answer for _ in levels]

    def picture(self, pixels, labels, *, level, draw, samples):
        return None


def test_passes_and_further_outcomes_are_kept_per_sample(tmp_path):
    run(tmp_path, perturbation=Passes(), draws=1, levels=(0.0,))
    with Run.open(tmp_path) as stored:
        assert stored.forwards("a", "stand-in", 0.0) == sum(range(250))
        assert stored.backwards("a", "stand-in", 0.0) == 2 * sum(range(250))
        outcome = stored.outcome("a", "stand-in", 0.0, 0)
        assert outcome["forwards"].tolist() == list(range(250))
        assert outcome["success"].tolist() == [True, False] * 125
        assert stored.correct("a", "stand-in", 0.0).all()
        assert stored.pictures() == []


def test_the_time_of_a_search_is_shared_by_the_levels_that_it_serves(tmp_path, monkeypatch):
    now = [0.0]

    class Slow(Passes):
        one_search_for_all_levels = True

        def measure(self, model, pixels, labels, *, levels, **options):
            now[0] += 1.0 * (0.0 in levels) + 60.0 * (max(levels) > 0)
            return super().measure(model, pixels, labels, levels=levels, **options)

    monkeypatch.setattr(sweep, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    run(tmp_path, perturbation=Slow(), draws=1, levels=(0.0, 0.5, 1.0, 2.0))
    with Run.open(tmp_path) as stored:  # three blocks
        assert [stored.seconds("a", "stand-in", level) for level in (0.0, 0.5, 1.0, 2.0)] == [3, 60, 60, 60]


def test_progress_counts_the_cells_of_all_kinds(tmp_path, monkeypatch):
    meters, meter = [], sweep.Meter
    monkeypatch.setattr(sweep, "Meter", lambda **given: meters.append(given) or meter(**given))
    data = stand_in.dataset()
    noises = [
        Noise(kind, space="pixel", dataset=data, seed=0, device=CPU) for kind in ("gaussian", "uniform")
    ]
    parts = [sweep.Part(noises[0], LEVELS), sweep.Part(noises[1], (0.0, 0.5))]
    sweep.execute(
        parts, command="noise", models=models(), dataset=data, draws=1, seed=0, arch="tiny", device=CPU,
        out=tmp_path,
    )  # fmt: skip
    images = {"images": (3 + 2) * 2 * 250, "kinds": ["gaussian", "uniform"]}
    assert [given.pop("passes")() for given in meters] == [0, 0]
    assert meters == [{**images, "done": 0}, {**images, "done": 3 * 2 * 250}]


def test_a_device_without_memory_is_one_line(tmp_path):
    class Full(Passes):
        def measure(self, *args, **kwargs):
            raise torch.OutOfMemoryError("tried to allocate")

    with pytest.raises(UserError, match="too little free memory"):
        run(tmp_path, perturbation=Full())


def test_nothing_global_is_left_changed(tmp_path):
    before = (torch.initial_seed(), torch.get_num_threads(), torch.is_grad_enabled(), os.getcwd())
    state = torch.get_rng_state()
    run(tmp_path)
    after = (torch.initial_seed(), torch.get_num_threads(), torch.is_grad_enabled(), os.getcwd())
    assert after == before
    assert torch.equal(torch.get_rng_state(), state)
