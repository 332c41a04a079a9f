from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from blrobust.reports import svg

TITLE = f"{{{svg.SVG}}}title"


def tipped(artist, figure, tips):
    """The shapes that have a tool tip, with their texts."""
    artist.set_gid("here")
    text = svg.element(figure, prefix="a", label="a < b", tips={"here": tips})
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == "a < b"
    return [(shape, shape.findtext(TITLE)) for shape in root.iter() if shape.find(TITLE) is not None]


@pytest.mark.parametrize("width", [0, 2])
def test_the_tips_of_a_line_are_at_its_markers(width):
    figure = Figure()
    axes = figure.subplots()
    (line,) = axes.plot([0, 1, 3], [5, 2, 4], marker="o", linewidth=width)
    shapes = tipped(line, figure, ["<a>", "$b$", "_c"])
    assert [text for _, text in shapes] == ["<a>", "$b$", "_c"]
    places = [(float(shape.get("x")), float(shape.get("y"))) for shape, _ in shapes]
    height = 72 * figure.get_figheight()  # SVG counts from above, in 72 units an inch
    scale = 72 / figure.dpi
    wanted = axes.transData.transform([(0, 5), (1, 2), (3, 4)]) * scale * [1, -1] + [0, height]
    np.testing.assert_allclose(places, wanted, atol=0.5 * 10**-svg.DECIMALS + 1e-6)


def test_the_tips_of_a_mesh_are_at_its_cells():
    figure = Figure()
    mesh = figure.subplots().pcolormesh(np.arange(6.0).reshape(2, 3))
    shapes = tipped(mesh, figure, list("abcdef"))
    assert [text for _, text in shapes] == list("abcdef")
    assert len({shape.get("style") for shape, _ in shapes}) == 6, "one colour a cell"
