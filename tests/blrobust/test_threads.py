"""Functions of the Python interface in several threads: each result is that of a single thread."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib import rcParams
from support.plain_model import Plain
from torch import Tensor

import blrobust
from blrobust.user_output import prints_counted

PAIR = (torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3)


class Random(Plain):
    """Draws from torch's global generator, and lets other threads run before and after."""

    def forward(self, x: Tensor) -> Any:
        time.sleep(0.002)
        noise = torch.randn_like(x)
        time.sleep(0.002)
        return super().forward(x + noise + torch.randn_like(x))


def measured(out: Path) -> pd.DataFrame:
    levels: dict[str, Any] = {"gaussian": [0, 1, 2]}
    found = blrobust.evaluate({"m": Random()}, data=PAIR, noise=levels, space="pixel", draws=2, out=out)
    return found.per_image()


def both(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    with ThreadPoolExecutor(2) as threads:
        futures = threads.submit(first), threads.submit(second)
        return futures[0].result(), futures[1].result()


def test_two_measurements_are_those_of_one_thread(tmp_path: Path) -> None:
    streams, alone = (sys.stdout, sys.stderr), measured(tmp_path / "alone")
    for found in both(lambda: measured(tmp_path / "a"), lambda: measured(tmp_path / "b")):
        pd.testing.assert_frame_equal(found, alone)
    assert (sys.stdout, sys.stderr) == streams
    pd.testing.assert_frame_equal(measured(tmp_path / "a"), alone)


def test_other_functions_wait_for_a_measurement(tmp_path: Path) -> None:
    class Reads(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, place: int) -> Any:
            return torch.rand(3, 6, 6), place % 3

    def other() -> None:
        for _ in range(5):
            blrobust.load_data(Reads())
            blrobust.load_model(Random(), data=PAIR)  # type: ignore[arg-type]

    alone = measured(tmp_path / "alone")
    found, _ = both(lambda: measured(tmp_path / "a"), other)
    pd.testing.assert_frame_equal(found, alone)


def test_a_model_may_measure_another_one(tmp_path: Path) -> None:
    class Outer(Plain):
        inner: pd.DataFrame | None = None

        def forward(self, x: Tensor) -> Any:
            if self.inner is None:
                self.inner = measured(tmp_path / "inner")
            return super().forward(x)

    outer = Outer()
    blrobust.evaluate({"m": outer}, data=PAIR, noise={"gaussian": [0]}, out=tmp_path / "outer")
    assert (tmp_path / "inner" / "results.csv").exists()


def test_streams_come_back_from_contexts_that_overlap(capsys: pytest.CaptureFixture[str]) -> None:
    streams, entered, inside, left = (sys.stdout, sys.stderr), Event(), Event(), Event()

    def first() -> None:
        with prints_counted():
            entered.set()
            assert inside.wait(9)
            print("first")
        left.set()

    def second() -> None:
        assert entered.wait(9)
        with prints_counted():
            inside.set()
            assert left.wait(9)
            print("second")

    both(first, second)
    assert (sys.stdout, sys.stderr) == streams
    assert capsys.readouterr().out == "first\nsecond\n"


def test_prints_of_the_caller_are_not_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    entered, printed = Event(), Event()

    def model() -> None:
        with prints_counted():
            print("model 1\nmodel 2")
            entered.set()
            assert printed.wait(9)

    def caller() -> None:
        assert entered.wait(9)
        for step in range(3):
            print("step", step)
        printed.set()

    both(model, caller)
    assert capsys.readouterr().out == "model 1\nstep 0\nstep 1\nstep 2\n"


def test_two_reports_leave_the_settings_of_matplotlib(tmp_path: Path) -> None:
    results = blrobust.evaluate({"m": Plain()}, data=PAIR, noise={"gaussian": [0, 1]}, out=tmp_path / "run")
    before = dict(rcParams)
    pages = both(lambda: results.report(tmp_path / "a.html"), lambda: results.report(tmp_path / "b.html"))
    assert all("</html>" in page.read_text("utf-8") for page in pages)
    assert dict(rcParams) == before
