"""The pages of a recovery and of a heat map on invented outcomes, and the table of a recovery."""

import re
from pathlib import Path

import pytest
from support import invented_frequencies

from blrobust.analysis.heatmap import HeatmapAnalysis
from blrobust.analysis.recovery import RecoveryAnalysis
from blrobust.analysis.view import view
from blrobust.cli.recover import _show
from blrobust.reports import heatmap, recovery
from blrobust.runs.run import Run


def test_a_mean_distance_has_the_number_of_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run.open(invented_frequencies.recovery(tmp_path / "run")) as run:
        results = view(run)
        assert isinstance(results, RecoveryAnalysis)
        for (attack, channel), count in results.broken.items():
            (level,) = run.levels(attack)
            fooled = run.outcome("a", attack, level, 0)["success"]
            assert count == (run.outcome(channel, attack, level, 0)["broken"] & fooled).sum()
        assert "broken" not in results.table.columns
        assert any(results.broken.values())
        recovery.render(results, tmp_path / "page.html")
        _show(results)
        page, shown = (tmp_path / "page.html").read_text("utf-8"), capsys.readouterr().out
        for row in results.table.to_dict("records"):
            count = results.broken[row["attack"], row["channel"]]
            words = f"of {count} image{'' if count == 1 else 's'}"
            if count:
                assert f"{row['adaptive_l2']:.2f} {words}" in shown
                assert f"{row['adaptive_l2']:.2f}<small>{words}</small>" in page


@pytest.mark.parametrize("tied", [1, 3])
def test_a_worst_frequency_names_its_ties(tied: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Run.open(invented_frequencies.heatmap(tmp_path / "run")) as run:
        results = view(run)
        assert isinstance(results, HeatmapAnalysis)
        waves = [kind for kind in run.kinds if kind != "clean"]
        counts = {"clean": (5, 0)} | {kind: (4 if i < tied else 1, 0) for i, kind in enumerate(waves)}
        monkeypatch.setattr(results, "_counts", {"a": counts, "b": counts})
        assert results.worst["a"].waves == results.worst["b"].waves == tied
        heatmap.render(results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert (f", one of {tied} waves" in page) == (tied > 1)


def test_a_page_writes_per_cent_in_one_way(tmp_path: Path) -> None:
    for name in ("heatmap", "recovery"):
        with Run.open(getattr(invented_frequencies, name)(tmp_path / name)) as run:
            results = view(run)
            path = tmp_path / f"{name}.html"
            if isinstance(results, HeatmapAnalysis):
                heatmap.render(results, path)
            elif isinstance(results, RecoveryAnalysis):
                recovery.render(results, path)
        body = path.read_text("utf-8").partition("</style>")[2]
        assert "effective compression 0.0\xa0%" in body
        others = r"<svg.*?</svg>|<script>.*?</script>|<a .*?>"
        assert not re.search(r"\d%", re.sub(others, "", body, flags=re.DOTALL))
