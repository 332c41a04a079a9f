"""The captions of published curves, and the choice of a series on a page of several runs."""

import math

import pytest
from support import invented

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.reports import page, paper_curves
from blrobust.runs.run import Run


@pytest.mark.parametrize(
    ("architectures", "difference"),
    [
        (["resnet20", None], "architecture and training differ from the models here."),
        (["resnet18"], "the training differs from that of the models here."),
        (
            ["resnet18", "resnet20"],
            "the training, and of some models the architecture, differ from those here.",
        ),
    ],
)
def test_the_caption_depends_on_the_architectures(architectures, difference):
    text = paper_curves.caption(10_000, architectures)
    start = "Dashed: Dziedzic et al. 2019, ResNet-18, one seed, 10,000 images, on the same axis; "
    assert text == start + difference


@pytest.mark.parametrize("order", [1, -1])
def test_the_largest_run_of_a_page_chooses_the_series(order, tmp_path):
    sizes = [("small", 100), ("large", 1200)][::order]
    paths = [
        invented.run(tmp_path / name, {"fp32": [0.9, 0.5]}, [0.0, 10.0], n=n, kind="pixel", space="legacy")
        for name, n in sizes
    ]
    first, second = (Run.open(path) for path in paths)
    with first, second:
        page.render([RunAnalysis(first), RunAnalysis(second)], tmp_path / "page.html")
    assert "one seed, 10,000 images, on" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("kind", "space", "images"),
    [
        ("gaussian", "normalized", 10_000),
        ("uniform", "legacy", 10_000),
        ("pixel", "legacy", 1000),
        ("fgsm", "legacy", 1000),
        ("contrast", "legacy", 1000),
        ("rotation", "legacy", 200),
        ("translation", "legacy", 200),
        ("gaussian-blur", "legacy", 100),
        ("local-search", "legacy", 100),
    ],
)
def test_accuracies_are_whole_numbers_of_the_images(kind, space, images):
    """Independent of the documentation: shares of n images; the pixel series of 10,000 is a mean of two."""
    found = paper_curves.series(
        kind=kind, space=space, datasets=["cifar10"], n=100, models=["fp32", "fft85"], last=1e9
    )
    assert {series.images for series in found} == {images}
    for series in found:
        for accuracy in (share for share in series.accuracy if not math.isnan(share)):
            assert accuracy * images == pytest.approx(round(accuracy * images), abs=0.02)
