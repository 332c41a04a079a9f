import re

import pytest
from support import invented

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.analysis.trained_and_tested import is_as_trained, mismatch, rates, topic
from blrobust.reports import page, paper_curves
from blrobust.runs.run import Run

TESTED = (0, 50, 85)


def mismatched(folder, *, trained=("fp32", "fft50"), n=200):
    """A run of models tested at other band limits; the accuracy falls by 1 point per per cent."""
    limits = {"fp32": 0, "fft50": 50, "fft85": 85}
    curves = {f"{m}@{nn}": [0.9 - abs(limits[m] - nn) / 100] for m in trained for nn in TESTED}
    cards = {
        f"{m}@{nn}": {
            "tested_at": nn,
            "nominal_compression": nn / 100,
            "effective_compression": nn / 100 + 0.01 * (nn > 0),
        }
        for m in trained
        for nn in TESTED
    }
    return invented.run(folder, curves, [0.0], n=n, cards=cards, is_exact=True)


def trained_alike(folder, labels=("fp32", "fft10", "fft50", "fft50-compact", "lowpass0.48+fp32")):
    cards = {
        label: {"nominal_compression": nominal, "effective_compression": nominal + 0.01}
        for label, nominal in (("fft10", 0.1), ("fft50", 0.48), ("fft50-compact", 0.48))
    } | {"lowpass0.48+fp32": {"channels": ("lowpass0.48",)}}
    curves = {label: [0.9 - 0.01 * index] for index, label in enumerate(labels)}
    return invented.run(folder, curves, [0.0], cards=cards, is_exact=True)


def render(folder, *runs):
    opened = [Run.open(run) for run in runs]
    page.render([RunAnalysis(run) for run in opened], folder / "page.html")
    for run in opened:
        run.close()
    return (folder / "page.html").read_text("utf-8")


def test_the_topic_of_a_run(tmp_path):
    levels = {"fp32": [0.9, 0.3], "fft50": [0.9, 0.5]}
    runs = {
        "mismatch": mismatched(tmp_path / "a"),
        "rates": trained_alike(tmp_path / "b"),
        "": invented.run(tmp_path / "c", levels, [0.0, 0.5]),
    }
    for expected, path in runs.items():
        with Run.open(path) as run:
            assert topic(RunAnalysis(run)) == expected
    one = invented.run(tmp_path / "d", {"fp32": [0.9], "fp16": [0.9]}, [0.0])
    with Run.open(one) as run:
        assert topic(RunAnalysis(run)) == ""


def test_rows_of_trained_and_tested(tmp_path):
    with Run.open(mismatched(tmp_path / "a")) as run:
        frame = mismatch(RunAnalysis(run).kinds["gaussian"])
    found = {(row.trained, row.tested_at): round(row.accuracy, 2) for row in frame.itertuples()}
    assert found == {
        ("fp32", 0): 0.9, ("fp32", 50): 0.4, ("fp32", 85): 0.05,
        ("fft50", 0): 0.4, ("fft50", 50): 0.9, ("fft50", 85): 0.55,
    }  # fmt: skip
    assert list(frame.compression) == sorted(frame.compression)


def test_families_of_models_tested_as_trained(tmp_path):
    with Run.open(trained_alike(tmp_path / "a")) as run:
        frame = rates(RunAnalysis(run).kinds["gaussian"])
    families = {family: list(rows.model) for family, rows in frame.groupby("trained")}
    assert families == {
        "fp32, fftNN": ["fp32", "fft10", "fft50"],
        "fp32, fftNN-compact": ["fp32", "fft50-compact"],
    }


@pytest.mark.parametrize(
    ("trained", "tested_at", "expected"),
    [
        ("fp32", 0, True),
        ("fp32", 50, False),
        ("fft50", 50, True),
        ("fft48", 50, True),  # the same nominal compression
        ("fft85-compact-seed2", 85, True),
        ("fft85", 84, True),
        ("mine", 0, False),
    ],
)
def test_the_band_limit_of_the_training(trained, tested_at, expected):
    assert is_as_trained(trained, tested_at) is expected


def test_the_page_of_other_band_limits(tmp_path):
    html = render(tmp_path, mismatched(tmp_path / "a", trained=("fp32", "fft50", "fft85")))
    assert "Clean accuracy at other band limits than in the training" in html
    assert html.count('class="trained"') == 3  # fp32@0, fft50@50, fft85@85
    assert '<td title="fft50@85: 55.0\N{NO-BREAK SPACE}% (' in html
    assert paper_curves.LABEL in html
    assert "Summary" not in html
    assert "Paired tests" not in html


def test_the_page_of_models_tested_as_trained(tmp_path):
    html = render(tmp_path, trained_alike(tmp_path / "a"))
    assert "<h1>Clean accuracy by band limit</h1>" in html
    assert "effective compression in the test" in html
    assert "Summary" in html
    assert "One image, level by level" not in html
    assert "Band limits against the models without" not in html
    assert 'class="grid heat"' not in html


def test_clean_runs_have_sections_of_their_own_beside_noise(tmp_path):
    noise = invented.run(tmp_path / "noise", {"fp32": [0.9, 0.3], "fft50": [0.9, 0.5]}, [0.0, 0.5])
    html = render(tmp_path, noise, mismatched(tmp_path / "a"), trained_alike(tmp_path / "b"))
    titles = [re.sub("<.*?>", "", title) for title in re.findall("<summary><h2.*?</h2>", html)]
    assert titles == [
        "Accuracy under Gaussian noise",
        "Clean accuracy at other band limits than in the training",
        "Clean accuracy by band limit",
    ]


def test_published_curves_are_those_of_cifar10():
    found = paper_curves.band_limits("mismatch", datasets=["cifar10"], models=["fft50", "fft10"])
    assert [series.model for series in found] == ["fft50"]
    assert found[0].levels[0] == 0
    assert found[0].accuracy[0] == pytest.approx(0.91)
    (curve,) = paper_curves.band_limits("rates", datasets=["cifar10"], models=["fp32, fftNN", "x"])
    assert curve.accuracy[0] == 0.9369
    assert paper_curves.band_limits("rates", datasets=["cifar100"], models=["fp32, fftNN"]) == []


def test_training_seeds_are_one_model(tmp_path):
    labels = ["fp32@0", "fp32@50", "fft50@0", "fft50-seed1@0", "fft50@50", "fft50-seed1@50"]
    cards = {
        label: {
            "tested_at": int(label.partition("@")[2]),
            "effective_compression": 0.5 * label.endswith("50"),
            "dataset": "cifar10",
            "checkpoint": f"cifar10-resnet20-{label.partition('@')[0]}.safetensors",
        }
        for label in labels
    }
    curves = {label: [0.5 + 0.1 * index] for index, label in enumerate(labels)}
    path = invented.run(tmp_path / "a", curves, [0.0], cards=cards, is_exact=True)
    with Run.open(path) as run:
        frame = mismatch(RunAnalysis(run).kinds["gaussian"])
    found = {(row.trained, row.tested_at): round(row.accuracy, 2) for row in frame.itertuples()}
    assert found == {("fp32", 0): 0.5, ("fp32", 50): 0.6, ("fft50", 0): 0.75, ("fft50", 50): 0.95}
    assert "fft50@50: 95.0" in render(tmp_path, path)
