"""The table and the page of the worst case over attacks, on a run whose outcomes are invented."""

import numpy as np
import pytest
from support import invented

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.cli.results import print_attacks
from blrobust.reports import page
from blrobust.reports.attacks import worst_case_table
from blrobust.runs.run import Run

LEVELS = [0.0, 8 / 255, 16 / 255]
KINDS = ("fgsm", "bim-linf")


def attacked(path, *, n, space, draws=1):
    """A run in which fgsm breaks a quarter of the images at 8/255 only, and bim-linf another at 16/255."""
    kinds = {kind: {"levels": LEVELS, "parameters": {}} for kind in KINDS}
    config = invented.configuration(
        ["fp32"], n=n, command="attack", kinds=kinds, space=space, source=None, target=None, draws=draws
    )
    labels = np.zeros(n, np.int16)
    parts = {("fgsm", LEVELS[1]): 0, ("bim-linf", LEVELS[2]): 1}
    with Run.create_or_resume(path, invented.record(config), labels) as made:
        for kind in KINDS:
            for level in LEVELS:
                broken = np.arange(n) % 4 == parts.get((kind, level), -1)
                outcome = {
                    "prediction": broken.astype(np.int16),
                    "success": broken,
                    "rounded": broken,
                    "reason": np.where(broken, 0, 1).astype(np.uint8),
                    "forwards": np.ones(n, np.int32),
                }
                for draw in range(draws):
                    made.add(("fp32", kind, level, draw), outcome, forwards=n, backwards=0, seconds=0.5)
        made.finish(end="2025-01-02T03:05:06+00:00")
    return path


@pytest.mark.parametrize(
    ("space", "names"),
    [
        ("pixel", ["Linf up to 8/255 (2)", "Linf up to 16/255 (2)"]),
        (
            "legacy",
            [
                "Linf up to 0.0313725 in normalised units (2)",
                "Linf up to 0.0627451 in normalised units (2)",
            ],
        ),
    ],
)
def test_rows_agree_and_have_the_unit_of_their_space(space, names, tmp_path):
    with Run.open(attacked(tmp_path / "run", n=40, space=space)) as run:
        table = worst_case_table(RunAnalysis(run))
    assert [name for name, _ in table.rows] == [*names, "all, each up to its last strength (2)"]
    assert [cells[0].text for _, cells in table.rows] == ["75.0\xa0%", "50.0\xa0%", "50.0\xa0%"]


@pytest.mark.parametrize("n", [40, 100])
def test_page_and_terminal_have_the_number_of_images_and_a_warning(n, tmp_path, capsys):
    with Run.open(attacked(tmp_path / "run", n=n, space="pixel")) as run:
        results = RunAnalysis(run)
        print_attacks(results)
        page.render([results], tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    head = html[html.index("Worst case</h2>") : html.index('<details class="fold">')]
    told = capsys.readouterr().out
    warning = f"Too few images: with {n} images the intervals are wide. Use 100 or more."
    assert f"{n} images." in head
    assert f"worst case of the 2 attacks, each up to its last strength, n = {n}: fp32 50.0 %" in told
    assert (warning in head) == (warning in told.partition("worst case")[2]) == (n < 100)
    assert "> 16/255" in told  # the median, as on the page
    assert "&gt;\xa016/255" in html
    assert "passes" in told
    assert "passes per image" in html


def test_page_and_terminal_have_the_number_of_draws(tmp_path, capsys):
    with Run.open(attacked(tmp_path / "run", n=100, space="pixel", draws=2)) as run:
        results = RunAnalysis(run)
        print_attacks(results)
        page.render([results], tmp_path / "page.html")
    html = " ".join((tmp_path / "page.html").read_text("utf-8").split())
    told = capsys.readouterr().out
    assert "fgsm, pixel space: cifar10, n = 100, 2 draws" in told
    assert "each up to its last strength and in all 2 draws, n = 100: fp32 50.0 %" in told
    assert "100 images, 2 draws per image and level." in html
    assert "at every strength up to the one in the row, in every draw: a larger" in html
    assert "In all of these an image counts once for each of the 2 draws." in html
