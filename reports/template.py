"""Rendering of a page from one of the templates in the folder `templates`."""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blrobust import __version__, atomic_write
from blrobust.errors import UserError
from blrobust.escaping import escape_lines
from blrobust.regular_file import read_bytes
from blrobust.reports import palette
from blrobust.runs.run import Run

MOST_BYTES = 2**28  # of a report
HEADING = re.compile('<h2[^>]* data-to="([^"]+)"[^>]*>(.*?)</h2>', re.DOTALL)
LEAD = re.compile('<span class="lead">.*?</span>', re.DOTALL)  # words that the contents leave out
BASELINE = Markup('<meta name="baseline" content="{}">')


def baseline_tag(name: str) -> Markup:
    """Return the HTML element that records the name of the baseline model in a page."""
    return BASELINE.format(escape_lines(name))


def shows_baseline(page: Path, name: str) -> bool:
    """Return whether the file `page` is the report of one run with `name` as the baseline.

    The result is False for a file that cannot be a report: a link, a pipe, or one of more than `MOST_BYTES`
    bytes.
    """
    if page.is_symlink():
        return False
    try:
        content = read_bytes(page, most=MOST_BYTES)
    except (OSError, UserError):
        return False
    return baseline_tag(name).encode(errors="replace") in content


def render(template: str, destination: Path, *, of: Sequence[Run], **content: Any) -> None:
    """Write the page that `html(template, **content)` returns to `destination`, completely or not at all.

    `of` are the runs of the report. Raises `OSError` if `destination` cannot be written, or is in the folder
    of a run that was moved.
    """
    page = html(template, **content)

    def check() -> None:
        for run in of:
            if run.path.absolute() == destination.absolute().parent:
                run.check()

    atomic_write.write_text(destination, page, check=check)


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
    environment.filters["headings"] = headings
    environment.filters["themed"] = palette.themed
    script = (files("blrobust.reports") / "templates" / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        **content,
        version=__version__,
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        light=Markup(palette.declarations(dark=False)),
        dark=Markup(palette.declarations(dark=True)),
    )


def headings(body: Markup) -> list[tuple[str, Markup]]:
    """Return the anchor and the text of each second-level heading with the attribute `data-to`, in order."""
    return [(anchor, Markup(LEAD.sub("", text)).strip()) for anchor, text in HEADING.findall(body)]


def _finalize(value: Any) -> Any:
    return escape_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value
