"""The pages in Chromium: on a phone, on wide and dark screens, in print, with and without their script.

Chromium is that of the system, and the rules of accessibility are those of axe-core, which the package
axe-playwright-python contains. Nothing is downloaded.
"""

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from support import invented, invented_frequencies
from support.invented_suite import suite

from blrobust.analysis.view import view
from blrobust.reports import document
from blrobust.runs.run import Run

playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install 'blrobust[browser]'")
pytest.importorskip("axe_playwright_python", reason="needs pip install 'blrobust[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

HOSTILE = "<script>document.title='owned'</script>"
NAMES = [HOSTILE, "\"><img src=x onerror='document.title=1'>", "'a' & \"b\"", "x" * 10_000]
RIGHT_TO_LEFT = "\u202eevil"  # a model may not have such a name, but a class may
LEVELS = [0.0, 0.5, 1.0, 1.5, 2.0]
CURVES = {"fp32": [0.93, 0.33, 0.11, 0.1, 0.1], "fft85": [0.84, 0.68, 0.36, 0.2, 0.17]}
LINF = [0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255]
KINDS = {
    "fgsm": LINF,
    "pgd-linf": LINF,
    "deepfool-l2": [0.0, 0.1, 0.25, 0.5, 1.0],
    "pixel": [0.0, 50.0, 200.0],
}
MODELS = {"fp32": 0.2, "fft50": 0.3, "fft85": 0.4}
WIDTHS = (360, 800, 1600)
NARROW = ("noise", "heatmap", "hostile")  # pages that are checked as a whole on a phone
PAGES = ("noise", "suite", "heatmap", "recovery", "comparison", "hostile")


def render(path: Path, *folders: Path) -> None:
    runs = [Run.open(folder) for folder in folders]
    document.render([view(run) for run in runs], path)
    for run in runs:
        run.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    noise = invented.run(folder / "noise", CURVES, LEVELS, n=400)
    attacks = suite(folder / "suite", KINDS, MODELS)
    other = invented.run(folder / "other", CURVES, LEVELS, dataset="cifar10-sample", note="a note")
    hostile = invented.run(
        folder / "<b>'&",
        {"fp32": CURVES["fp32"], **dict.fromkeys(NAMES, CURVES["fft85"])},
        LEVELS,
        dataset="folder:</style><i>",
        note=HOSTILE + RIGHT_TO_LEFT,
        classes=[*NAMES, RIGHT_TO_LEFT] * 2,
    )
    render(folder / "noise.html", noise)
    render(folder / "suite.html", attacks)
    render(folder / "heatmap.html", invented_frequencies.heatmap(folder / "map"))
    render(folder / "recovery.html", invented_frequencies.recovery(folder / "recovery"))
    uniform = invented.run(folder / "uniform", CURVES, LEVELS, kind="uniform")
    render(folder / "comparison.html", noise, other, uniform)
    render(folder / "hostile.html", hostile)
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, pages):
    """A function that opens a page; at the end, no request, message or error of any page is left."""
    heard, contexts = [], []

    def open_page(name, *, width=1600, script=True, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, java_script_enabled=script, **options
        )
        contexts.append(context)
        page = context.new_page()
        address = (pages / f"{name}.html").as_uri()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith(("data:", "blob:", address)) or heard.append(request.url),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_every_width_and_their_figures_can_be_read(name, visit):
    page = visit(name)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for is_open in ("false", "true"):
            page.evaluate(
                f"document.querySelectorAll('details').forEach(part => {{ part.open = {is_open} }})"
            )
            assert overflow(page) <= 0, (width, is_open)
        smallest = page.evaluate(
            """Math.min(...[...document.querySelectorAll("figure svg text")]
               .filter(text => text.getBoundingClientRect().width)
               .map(text => [parseFloat(getComputedStyle(text).fontSize), text.getScreenCTM()])
               .map(([size, matrix]) => size * Math.hypot(matrix.a, matrix.b)))"""
        )
        assert smallest >= 11, width


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(name, scheme, visit):
    page = visit(name, width=360 if scheme == "dark" else 1600, color_scheme=scheme)
    unfold(page)
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    # A dark screen changes nothing but colours, a narrow one little more.
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" and name not in NARROW else {}
    result = page.evaluate("options => axe.run(document, options)", rules)
    assert len(result["passes"]) >= (1 if rules else 20)
    found = [
        (rule["id"], rule["help"], [node["html"][:200] for node in rule["nodes"][:3]])
        for rule in result["violations"]
    ]
    assert not found, json.dumps(found, indent=1)


def test_a_dark_screen_gets_dark_paper_and_light_ink(visit):
    def brightness(scheme):
        """The sums of red, green and blue of the page's paper and of the text in its figure."""
        colours = visit("noise", color_scheme=scheme).evaluate(
            """[getComputedStyle(document.body).backgroundColor,
                getComputedStyle(document.querySelector(".plot text")).fill]"""
        )
        return [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]

    paper, ink = brightness("light")
    assert paper > 2 * ink
    paper, ink = brightness("dark")
    assert ink > 2 * paper


@pytest.mark.parametrize("name", PAGES)
def test_print_cuts_nothing_and_does_not_end_with_a_footer(name, visit):
    page = visit(name, width=680, color_scheme="dark")  # A4 without its margins
    page.emulate_media(media="print", color_scheme="dark")
    assert overflow(page) <= 0
    wide = "[...document.querySelectorAll('.scroll, figure')].filter(part => part.scrollWidth > 681).length"
    assert page.evaluate(wide) == 0
    assert page.evaluate("getComputedStyle(document.querySelector('footer')).display") == "none"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_folded_parts_are_printed(visit):
    page = visit("suite", width=680)
    page.emulate_media(media="print")
    heights = page.evaluate("[...document.querySelectorAll('details table')].map(part => part.offsetHeight)")
    assert min(heights) > 0


def test_a_page_without_its_script_has_every_number(visit):
    page = visit("suite", script=False)
    assert page.locator("button").count() == 0
    assert page.locator(".plot title").count() > 0
    assert page.locator("a[download='results.csv']").count() == 1
    page.get_by_role("link", name="pgd-linf attack").first.click()
    assert page.locator("#part1").is_visible(), "a link unfolds its part"


def test_tables_are_sorted_by_a_click_on_a_column(visit):
    page = visit("suite")
    header = page.locator(".matrix thead th").nth(1)
    values = """[...document.querySelectorAll(".matrix tbody tr")]
        .map(row => parseFloat(row.cells[1].textContent.replace(/[^0-9.]/g, "")))"""
    for way, sign in (("ascending", 1), ("descending", -1)):
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == way
        found = [sign * value for value in page.evaluate(values)]
        assert found == sorted(found)
        assert len(set(found)) > 2
    page.locator(".matrix thead th").first.locator("button").click()
    assert header.get_attribute("aria-sort") is None


def test_levels_are_sorted_as_numbers(visit):
    page = visit("suite")
    unfold(page)
    table = page.locator("details:has(> summary > #part0-levels0) table")
    table.locator("thead button").first.click()
    table.locator("thead button").first.click()
    assert table.locator("tbody th").all_text_contents() == ["8/255", "4/255", "2/255", "1/255", "0"]


def test_a_model_is_hidden_in_all_figures(visit):
    page = visit("suite")
    unfold(page)
    shapes = page.locator(".plot.wide [data-model='1']")
    count = shapes.count()
    assert count >= 2 * len(KINDS)
    page.locator(".legend button", has_text="fft50").first.click()
    assert page.locator(".plot.wide [data-model='1']:visible").count() == 0
    assert page.locator(".plot.wide [data-model='2']:visible").count() > 0
    pressed = page.locator(".legend li[data-model='1'] button").evaluate_all(
        "items => items.map(item => item.getAttribute('aria-pressed'))"
    )
    assert pressed == ["false"] * len(KINDS)
    page.locator(".legend button", has_text="fft50").last.click()
    assert page.locator(".plot.wide [data-model='1']:visible").count() > 0


def test_tool_tips_are_reached_by_keyboard(visit):
    page = visit("noise")
    page.locator(".plot.wide").focus()
    told = []
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        told.append(page.locator(".tip").text_content())
    assert told[0].startswith("fp32, sigma 0: ")
    assert told[1].startswith("fp32, sigma 0.5: ")
    assert told[2].startswith("fft85, sigma 0.5: ")
    assert told[3] == told[1]
    page.keyboard.press("Escape")
    assert page.locator(".tip").is_hidden()
    page.locator(".plot.wide [data-model='1'] use").last.hover()
    assert page.locator(".tip").is_visible()


def saved(page, label):
    with page.expect_download() as started:
        page.get_by_label(label).first.click()
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def test_downloads_are_files_with_the_content_of_the_page(visit, pages):
    page = visit("suite", color_scheme="dark", accept_downloads=True)
    unfold(page)
    with page.expect_download() as started:
        page.locator("a[download='results.csv']").click()
    with Run.open(pages / "suite") as run:
        view(run).write_csv()
    assert Path(started.value.path()).read_bytes() == (pages / "suite" / "results.csv").read_bytes()
    name, svg = saved(page, re.compile("^Download as SVG"))
    assert name == "accuracy-under-the-fgsm-attack.svg"
    assert svg.startswith(b"<svg")
    assert b"var(" not in svg
    name, png = saved(page, re.compile("^Download as PNG"))
    assert (name[-4:], png[:4]) == (".png", b"\x89PNG")
    name, text = saved(page, re.compile("^Download as Markdown: Accuracy at a reference level"))
    rows = text.decode().splitlines()
    assert rows[0] == "| kind | fp32 | fft50 | fft85 |"
    assert len(rows) == 2 + len(KINDS)
    name, text = saved(page, re.compile("^Download as LaTeX: Accuracy at a reference level"))
    assert text.decode().count(r"\%") == len(KINDS) * len(MODELS)
    with page.expect_download() as started:
        page.locator("a[download='attacks.bib']").click()
    assert b"@inproceedings{madry2018towards," in Path(started.value.path()).read_bytes()


def test_hostile_names_stay_text(visit):
    page = visit("hostile")
    unfold(page)
    assert "owned" not in page.title().split("document")[0]
    assert page.locator("main img[src='x'], main i, main b b").count() == 0
    assert page.locator("script").count() == 1
    legend = page.locator(".legend li").all_text_contents()
    assert any(HOSTILE in text for text in legend)
    assert not any("\u202e" in text for text in page.locator("body").all_text_contents())
    page.locator(".plot.wide").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.locator(".tip *").count() == 0
