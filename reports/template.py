"""Rendering of a page from one of the templates in the folder `templates`."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blrobust import __version__, atomic_write
from blrobust.escaping import escape_lines

BASELINE = Markup('<meta name="baseline" content="{}">')


def baseline_tag(name: str) -> Markup:
    """Return the HTML element that records the name of the baseline model in a page."""
    return BASELINE.format(escape_lines(name))


def shows_baseline(page: Path, name: str) -> bool:
    """Return whether the file `page` is the report of one run with `name` as the baseline."""
    return page.exists() and baseline_tag(name) in page.read_text("utf-8", errors="replace")


def render(template: str, destination: Path, **content: Any) -> None:
    """Write the page that `html(template, **content)` returns to `destination`, whole or not at all.

    Raises `OSError` if `destination` cannot be written.
    """
    atomic_write.write_text(destination, html(template, **content))


def html(template: str, **content: Any) -> str:
    """Return the page made from the template file `template`; `content` are its variables.

    Text in the variables is escaped for HTML, and its control and format characters are written as escape
    sequences.
    """
    environment = Environment(
        loader=PackageLoader("blrobust.reports"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content, version=__version__)


def _finalize(value: Any) -> Any:
    return escape_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value
