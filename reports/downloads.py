"""Files that a page carries in its links: they can be saved without a script and without the network."""

from dataclasses import dataclass
from urllib.parse import quote

import pandas as pd

from blrobust.escaping import unicode_text

PLAIN = " ,:;/+()|=!*"  # besides letters and digits, the characters that a data URI may hold as they are


@dataclass(frozen=True)
class File:
    """A file with its name and its content as a data URI."""

    name: str
    uri: str


def results_file(table: pd.DataFrame, *, of: str = "") -> File:
    """Return the rows of a run as the file results.csv; `of` is put before its name if there are several."""
    content = table.to_csv(index=False, lineterminator="\n")
    return File(f"{of}-results.csv" if of else "results.csv", _uri(content, "text/csv"))


def bibliography_file(content: str) -> File:
    """Return BibTeX entries as the file attacks.bib."""
    return File("attacks.bib", _uri(content, "text/x-bibtex"))


def _uri(content: str, media_type: str) -> str:
    return f"data:{media_type};charset=utf-8,{quote(unicode_text(content), safe=PLAIN)}"
