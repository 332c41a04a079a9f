import base64
import hashlib
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from support import invented

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.cli.results import print_conclusions
from blrobust.reports import page
from blrobust.reports.notebook import accuracies
from blrobust.runs.run import Run

LEVELS = [0.0, 0.5, 1.0, 1.5, 2.0]
CURVES = {
    "fp32": [0.93, 0.33, 0.11, 0.1, 0.1],
    "fft85": [0.84, 0.68, 0.36, 0.2, 0.17],
}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a & b &amp; c",
    "$x_1$ and $\\frac{1}$",
    "_hidden",
    "{{ 7*7 }} {% raw %}",
    "</style></svg>",
]
LOADS = {"src", "href", "xlink:href", "data", "action", "poster", "srcset"}
CARRIED = ("image/png", "text/csv", "text/x-bibtex")  # files that a page holds itself
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text, and whether tags are closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def render(tmp_path, *runs):
    opened = [Run.open(run) for run in runs]
    destination = tmp_path / "page.html"
    page.render([RunAnalysis(run) for run in opened], destination)
    for run in opened:
        run.close()
    return destination.read_text("utf-8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return render(folder, invented.run(folder / "first", CURVES, LEVELS, n=400))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    curves = {"fp32": CURVES["fp32"], **dict.fromkeys(HOSTILE, CURVES["fft85"])}
    made = invented.run(
        folder / "<b>run",
        curves,
        LEVELS,
        dataset="folder:<i>",
        note="<u>note</u> & more",
        classes=HOSTILE[:5] * 2,
    )
    other = invented.run(folder / "& other", curves, LEVELS)
    return render(folder, made), render(folder, made, other)


def everything(request):
    return [request.getfixturevalue("plain"), *request.getfixturevalue("hostile")]


def test_pages_are_well_formed_and_load_nothing(request):
    for html in everything(request):
        seen = Page(html)
        assert seen.open == []
        assert {"link", "iframe", "object", "embed", "base", "form"}.isdisjoint(seen.tags)
        (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
        assert seen.tags.count("script") == 1
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'; " in html
        for key, value in seen.attributes:
            assert not key.startswith("on")
            if key in LOADS:
                assert value.startswith(
                    ("#", "data:image/png;base64,", "data:text/csv;", "data:text/x-bibtex;")
                )
        style = html[html.index("<style>") : html.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style
        outside = re.findall(r"https?://[^\s\"<]+", html)
        assert {u.rstrip("/") for u in outside} <= {
            "http://www.w3.org/2000/svg",  # names of namespaces, which nobody fetches
            "http://www.w3.org/1999/xlink",
        }


def test_ids_are_unique_and_references_resolve(request):
    for html in everything(request):
        seen = Page(html)
        ids = [value for key, value in seen.attributes if key == "id"]
        assert len(ids) == len(set(ids)) > 0
        targets = [value for key, value in seen.attributes if key in ("xlink:href", "href")]
        pointed = {value[1:] for value in targets if value.startswith("#")}
        pointed |= {m for _, value in seen.attributes for m in re.findall(r"url\(#([^)]+)\)", value or "")}
        assert pointed <= set(ids)


def test_every_name_from_the_user_is_text(hostile):
    for html in hostile:
        seen = Page(html)
        for name in [*HOSTILE, "folder:<i>", "<u>note</u> & more", "<b>run"]:
            assert name in seen.words or name in " ".join(seen.text)
        assert {"i", "u", "img"} & set(seen.tags) <= {"img"}
        assert "onerror" not in {key for key, _ in seen.attributes}


def test_figures_are_svg_with_tool_tips_for_every_name(hostile):
    figures = re.findall(r"<svg xmlns.*?</svg>", hostile[0], re.DOTALL)
    assert len(figures) == 2
    for figure in figures:
        root = ElementTree.fromstring(figure)
        tips = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
        assert len(tips) == (1 + len(HOSTILE)) * len(LEVELS)
        for name in HOSTILE:
            assert any(tip.startswith(f"{name}, sigma 0.5: ") for tip in tips)
        assert not list(root.iter("{http://www.w3.org/2000/svg}style"))


def test_the_same_run_gives_the_same_bytes(plain, tmp_path):
    again = render(tmp_path, invented.run(tmp_path / "first", CURVES, LEVELS, n=400))
    old = re.search(r"<dt>folder</dt><dd>(.*?)</dd>", plain)[1]
    new = re.search(r"<dt>folder</dt><dd>(.*?)</dd>", again)[1]
    assert again.replace(new, old) == plain


def test_what_was_asked_is_said(plain):
    words = Page(plain).words
    assert "400 images of cifar10 (test split), 5 levels from sigma 0 to 2, one draw per image" in words
    assert "One training seed." in words
    assert "sigma in pixel units (0 to 1)" in words
    assert "sigma in normalised units (not clipped)" in words
    for number in ("84 %", "86.0 %", "0 %", "0.0 %"):
        assert number in words
    assert "Unfinished" not in words
    assert "Note on the data" not in words
    assert "blrobust noise --models fp32,fft85" in words


def test_the_strip_marks_answers_by_sign_and_colour(tmp_path):
    made = invented.run(tmp_path / "run", CURVES, LEVELS, n=300)
    html = render(tmp_path, made)
    with Run.open(made) as run:
        pictures = run.pictures()
        right = sum(
            int(run.outcome(m, "gaussian", p.level, 0)["prediction"][p.sample]) == p.label
            for m in CURVES
            for p in pictures
        )
    assert html.count("data:image/png;base64,") == len(pictures) == 5
    assert html.count('class="right"') == html.count("<span>✓</span>") == right
    assert html.count('class="wrong"') == html.count("<span>✗</span>") == 10 - right


def test_an_answer_that_is_no_number_has_no_class(tmp_path, monkeypatch):
    monkeypatch.setattr(invented, "predictions", lambda labels, *a, **k: np.full(len(labels), -1, np.int16))
    html = render(tmp_path, invented.run(tmp_path / "run", CURVES, LEVELS))
    assert html.count("<span>✗</span> none") == 10


def test_notes_and_unfinished_runs_are_visible(tmp_path):
    made = invented.run(tmp_path / "run", CURVES, LEVELS, note="cifar10 is not here", cells=7)
    words = Page(render(tmp_path, made)).words
    assert "Note on the data: cifar10 is not here" in words
    assert "Unfinished: 7 of 10 cells are done" in words
    empty = invented.run(tmp_path / "empty", CURVES, LEVELS, cells=0)
    assert "No model has all its levels yet." in Page(render(tmp_path, empty)).words


@pytest.mark.parametrize(
    ("kind", "space", "dataset", "dashed"),
    [
        ("gaussian", "normalized", "cifar10", True),
        ("gaussian", "normalized", "cifar10-sample", True),
        ("gaussian", "pixel", "cifar10", False),
        ("gaussian", "legacy", "cifar10", False),
        ("gaussian", "normalized", "cifar100", False),
        ("uniform", "legacy", "cifar10", True),
        ("uniform", "pixel", "cifar10", False),
        ("pixel", "legacy", "cifar10", True),
        ("pixel", "pixel", "cifar10", False),
        ("local-search", "legacy", "cifar10-sample", True),
        ("local-search", "pixel", "cifar10-sample", False),
        ("fgsm", "pixel", "cifar10", False),
    ],
)
def test_published_curves_only_where_the_axes_match(kind, space, dataset, dashed, tmp_path):
    made = invented.run(tmp_path / "run", CURVES, LEVELS, kind=kind, space=space, dataset=dataset)
    html = render(tmp_path, made)
    assert ("Dziedzic et al. 2019, ResNet-18, one seed" in html) is dashed
    assert html.count('class="dashed"') == dashed
    assert "The attack" not in html  # these are sweeps of noise
    assert html.count("stroke-dasharray: 4.8,3.6") == (4 if dashed else 0)  # two models, two figures


def test_rejected_inputs_are_counted_under_the_figure(tmp_path, plain):
    words = Page(render(tmp_path, invented.run(tmp_path / "run", CURVES, LEVELS, checks=True))).words
    assert (
        "40 of 1,990 attacked inputs were rejected by the checks and count as robust: "
        "10 not finite, 10 out of bounds, 10 beyond epsilon, 10 raised."
    ) in words
    assert "attacked inputs" not in Page(plain).words


def test_runs_of_one_kind_share_a_figure_and_others_do_not(tmp_path):
    first = invented.run(tmp_path / "a" / "run", CURVES, LEVELS)
    second = invented.run(tmp_path / "b" / "run", {"fp32": CURVES["fp32"], "mine": CURVES["fft85"]}, LEVELS)
    third = invented.run(tmp_path / "c", CURVES, LEVELS, kind="pixel", space="pixel")
    html = render(tmp_path, first, second, third)
    words = Page(html).words
    assert html.count("<figure") == 2
    assert "3 runs compared" in words
    assert f"fp32, {first}" in words  # two folders of one name are told apart by their paths
    assert f"mine, {second}" in words
    assert words.count("Provenance:") == 3
    assert "Accuracy under the pixel attack" in words


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    made = invented.run(tmp_path / "run", CURVES, LEVELS)
    with Run.open(made) as run, pytest.raises(OSError, match="missing"):
        page.render([RunAnalysis(run)], tmp_path / "missing" / "page.html")


def test_levels_that_differ_look_different(tmp_path, capsys):
    levels = [0.0, 0.12345678, 0.123456789]
    curves = {model: curve[:3] for model, curve in CURVES.items()}
    with Run.open(invented.run(tmp_path / "run", curves, levels)) as run:
        results = RunAnalysis(run)
        page.render([results], tmp_path / "page.html")
        print_conclusions(results.kinds["gaussian"])
        assert list(accuracies(results.kinds["gaussian"]).columns) == ["0", "0.12345678", "0.12345679"]
    html, shown = (tmp_path / "page.html").read_text("utf-8"), capsys.readouterr().out
    for text in ("0.12345678", "0.12345679"):
        assert f'<th scope="row">{text}</th>' in html
    assert "0.123457" not in html + shown
