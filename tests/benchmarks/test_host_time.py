import itertools
from types import SimpleNamespace

import host_parts
import host_time
import pytest
import torch
from host_time import Row
from torch import nn

from blconv import BandLimitedConv2d


class Layer:
    def forward(self):
        return self.plan() + 1

    def plan(self):
        return 1


def test_a_part_is_the_time_of_a_function_without_those_that_it_calls(monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr(host_parts, "time", SimpleNamespace(perf_counter_ns=lambda: 1000 * next(seconds)))
    monkeypatch.setattr(host_parts, "TIMED", [("layer", Layer, "forward"), ("plan", Layer, "plan")])
    monkeypatch.setattr(host_parts, "PARTS", {"all": ("layer",), "rest": ("layer", "plan", "absent")})
    original, layer = Layer.forward, Layer()
    assert host_parts.parts(layer.forward, 0) == {}
    assert host_parts.parts(lambda: [layer.forward(), layer.plan()], 2) == {"all": 3, "rest": 2}
    assert Layer.forward is original


def test_layers_without_kernels_have_no_parts():
    layer = BandLimitedConv2d(2, 3, 3, padding=1, compression=0.5)
    assert host_parts.parts(lambda: layer(torch.randn(1, 2, 8, 8)), 1) == {}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_kinds_are_measured_and_written(device, tmp_path, monkeypatch):
    def training_step(change, batch, autocast, device, compile_model):
        model = change(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)).to(device))
        return lambda: model(torch.randn(batch, 3, 8, 8, device=device)).sum().backward()

    monkeypatch.setattr(host_time, "training_step", training_step)
    monkeypatch.setattr(host_time, "set_precision", lambda name: None)  # it would last for the other tests
    options = ["--device", device, "--batch", "2", "--rounds", "1", "--steps", "1", "--calls", "1"]
    monkeypatch.setattr("sys.argv", ["host_time.py", *options, "--networks", "fft50", "--out", str(tmp_path)])
    host_time.main()
    where, rows = host_time.read(tmp_path / f"host_time-{device}.json")
    assert where["batch"] == "2"
    kinds = {"step", "alone", "piece"} | ({"part"} if device == "cuda" else set())
    assert {row.kind for row in rows} == kinds
    assert {row.network for row in rows if row.kind == "step"} == {"ordinary", "fft50"}
    assert all(row.microseconds > 0 for row in rows if row.kind != "part")
    assert host_time.read(tmp_path / "none.json") == ({}, [])


def test_table_has_ratios_of_steps():
    rows = [
        Row("step", "ordinary", "as it is", 8000.0), Row("step", "fft50", "as it is", 12000.0),
        Row("part", "fft50", "rest", 12.4),
    ]  # fmt: skip
    lines = host_time.tables(rows)
    assert "| as it is | 8.00 | 12.00, **1.50** |" in lines
    assert "| rest | 12 |" in lines
    assert not any("alone" in line for line in lines)
