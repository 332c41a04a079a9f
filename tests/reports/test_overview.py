"""The overview of a suite, its ranks, its colours and its downloads; every number is computed again."""

import re
from html import unescape
from itertools import pairwise
from urllib.parse import unquote

import pytest
from support import invented
from support.invented_suite import suite

from blrobust.analysis.run_analysis import RunAnalysis
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.reports import bibliography, page, palette
from blrobust.reports.overview import reference_level
from blrobust.runs.run import Run

KINDS = {"fgsm": [0.0, 2 / 255, 8 / 255], "pgd-linf": [0.0, 2 / 255, 8 / 255], "pixel": [0.0, 100.0]}
MODELS = {"fp32": 0.3, "fft85": 0.6}


def render(path, *folders):
    runs = [Run.open(folder) for folder in folders]
    page.render([RunAnalysis(run) for run in runs], path)
    for run in runs:
        run.close()
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overview")
    return folder / "run", render(folder / "page.html", suite(folder / "run", KINDS, MODELS))


def test_the_matrix_has_the_accuracy_at_the_level_that_halves_the_baseline(made):
    folder, html = made
    rows = re.findall(
        r'<tr><th scope="row"><a href="#(part\d)">(.*?)</a><small>(.*?)</small></th>(.*?)</tr>', html
    )
    assert [name for _, name, *_ in rows] == ["fgsm attack", "pgd-linf attack", "pixel attack"]
    with Run.open(folder) as run:
        for (anchor, _, words, cells), kind in zip(rows, KINDS, strict=True):
            assert f'id="{anchor}"' in html
            right = {m: {x: run.correct(m, kind, x).mean() for x in KINDS[kind]} for m in MODELS}
            low = [x for x in KINDS[kind][1:] if right["fp32"][x] <= right["fp32"][0.0] / 2]
            level = low[0] if low else KINDS[kind][-1]
            assert reference_level(RunAnalysis(run).kinds[kind]) == level
            assert words.split()[-1 if kind != "pixel" else 0] == (
                f"{round(255 * level)}/255" if kind != "pixel" else "100"
            )
            shown = [float(text) for text in re.findall(r"([\d.]+)\xa0%</td>", cells)]
            assert shown == [round(100 * right[m][level], 1) for m in MODELS]


def test_a_mark_in_the_matrix_is_that_of_the_paired_test(made):
    folder, html = made
    with Run.open(folder) as run:
        results = RunAnalysis(run)
        signs = []
        for analysis in results.kinds.values():
            tests = analysis.compare("fft85", "fp32").set_index("level")
            signs.append({"better": "▲ ", "worse": "▼ "}.get(tests.verdict[reference_level(analysis)], ""))
    matrix = html[html.index('<table class="matrix') : html.index("</table>")]
    assert re.findall(r'">([▲▼]? ?)[\d.]+\xa0%</td>', matrix)[1::2] == signs
    assert any(signs)


def test_the_contents_name_every_part_and_each_attack_is_folded(made):
    html = made[1]
    links = re.findall(r'<li><a href="#(.*?)">(.*?)</a>', html)
    assert [text for _, text in links] == [
        *("Overview", "Worst case", "fgsm attack", "pgd-linf attack", "pixel attack"),
        *("Downloads", "Method and provenance"),
    ]
    for anchor, _ in links:
        assert html.count(f'id="{anchor}"') == 1
    assert html.count('<details class="fold">') == len(KINDS)


def test_headings_are_in_order(made, tmp_path):
    alone = render(tmp_path / "page.html", invented.run(tmp_path / "run", {"fp32": [0.9]}, [0.0]))
    for html in (made[1], alone):
        levels = [1, *map(int, re.findall(r"<h([2-6])", html))]
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_page_carries_results_csv_and_the_sources_of_its_attacks(made):
    folder, html = made
    files = dict(re.findall(r'<a download="(.*?)" href="data:[^,]*,(.*?)">', html))
    assert set(files) == {"results.csv", "attacks.bib"}
    with Run.open(folder) as run:
        RunAnalysis(run).write_csv()
    assert unquote(unescape(files["results.csv"])) == (folder / "results.csv").read_text("utf-8")
    entries = unquote(unescape(files["attacks.bib"]))
    assert entries == bibliography.bibtex(KINDS)
    assert re.findall(r"^@\w+\{(.*),$", entries, re.MULTILINE) == [
        *("dziedzic2019band", "goodfellow2015explaining", "madry2018towards"),
    ]


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_attack_has_its_source_in_bibtex(kind):
    source = ATTACKS[kind].source
    entries = bibliography.bibtex([kind])
    assert entries.startswith("@")
    for year in re.findall(r"\d{4}", source):
        assert f"year = {{{year}}}" in entries


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_enough_contrast(scheme):
    shade = {name: getattr(shades, scheme) for name, shades in palette.SHADES.items()}
    text = [*[(name, "paper") for name in ("ink", "soft", "good", "bad", "accent")], ("ink", "heat")]
    text += [("good", "good-tint"), ("bad", "bad-tint"), ("note", "note-tint"), ("paper", "ink")]
    for ink, paper in text:
        assert contrast(shade[ink], shade[paper]) >= 4.5, (ink, paper)
    for number in range(1, len(palette.COLOURS)):
        assert contrast(shade[f"c{number}"], shade["paper"]) >= 3, number


def test_colours_become_variables_and_back():
    style = "fill: #0072b2; stroke: #ffffff; stop-color: #123456"
    themed = palette.themed(style)
    assert themed == "fill: var(--c1,#0072b2); stroke: var(--paper,#ffffff); stop-color: #123456"
    assert palette.unthemed(themed) == style


def test_a_model_has_one_colour_and_marker_on_the_whole_page(tmp_path):
    levels = [0.0, 1.0]
    first = invented.run(tmp_path / "a", {"fp32": [0.9, 0.2], "fft85": [0.8, 0.5]}, levels)
    second = invented.run(
        tmp_path / "b", {"fft85": [0.8, 0.5], "mine": [0.9, 0.1]}, levels, kind="uniform", space="pixel"
    )
    html = render(tmp_path / "page.html", first, second)
    keys = re.findall(r'<li data-model="(\d)"><svg .*?href="#(.*?)"/></svg><span>(.*?)</span>', html)
    assert keys == [
        *(
            ("0", "key0-0", "fp32"),
            ("1", "key1-0", "fft85"),
            ("1", "key1-0", "fft85"),
            ("2", "key2-0", "mine"),
        ),
    ]
    colours = dict(re.findall(r'<symbol id="(.*?)".*?stroke="(.*?)"', html))
    assert [*colours] == ["key0-0", "key1-0", "key2-0"]
    assert len(set(colours.values())) == 3
    for figure in re.findall(r"<svg xmlns=.*?</svg>", html, re.DOTALL):
        assert colours["key1-0"] in figure


def test_sections_of_one_title_are_told_apart_by_their_space(tmp_path):
    levels, curves = [0.0, 1.0], {"fp32": [0.9, 0.2]}
    first = invented.run(tmp_path / "a", curves, levels)
    second = invented.run(tmp_path / "b", curves, levels, space="pixel")
    html = render(tmp_path / "page.html", first, second)
    for space in ("normalized", "pixel"):
        assert f"Gaussian noise, {space} space</h2>" in html


def test_ranks_over_six_seeds_are_on_the_page_and_over_five_are_not(tmp_path):
    curves = {"fp32": [0.9, 0.2], "fft50": [0.9, 0.4], "fft85": [0.8, 0.6]}
    for count in (5, 6):
        seeds = {
            f"{model}-seed{seed}" if seed else model: [clean, low + seed / 100]
            for model, (clean, low) in curves.items()
            for seed in range(count)
        }
        cards = invented.trained(seeds)
        folder = invented.run(tmp_path / f"run{count}", seeds, [0.0, 1.0], is_exact=True, cards=cards)
        html = render(tmp_path / "page.html", folder)
        assert ("Friedman&#39;s test over 6 training seeds (0, 1, 2, 3, 4, 5)" in html) == (count == 6)
    words = re.sub(r"\s+", " ", unescape(html)).replace("\xa0", " ")
    assert (
        "chi-square 12.00, p = 0.0025: not all models are alike. By Nemenyi's test fft85 ranks above fp32."
        in words
    )
    assert "critical difference 1.35" in words  # 2.343 * sqrt(3 * 4 / (6 * 6))
