"""File names for labels of models, which may contain any character, and of reports."""

import hashlib
import re
import string
from urllib.parse import quote

REPORT_SUFFIXES = (".html", ".htm")
MOST = 200  # characters of a name; file systems allow 255 bytes, and an ending is added
PLAIN = frozenset(string.ascii_lowercase + string.digits + "._+=-")
_DIGITS = 32  # of the checksum that ends the name of a long label
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?")  # of Windows, with any ending


def file_name(label: str) -> str:
    """Return an ASCII file name for a `label` that is not empty. Different labels get different names.

    The names also differ on file systems that ignore the case of letters or drop dots at the end. Small
    letters, digits and `._+=-` are kept, except for dots at the beginning and the end, and the first letter
    of a Windows device such as `nul` or `com1.x`. All other characters are percent-encoded as UTF-8, so
    `urllib.parse.unquote` returns the label. A name of more than `MOST` characters is cut and ends in `~` and
    a checksum of the label; the label must then be stored in the file.
    """
    inner = label.strip(".")
    start = len(label) - len(label.lstrip("."))
    end = len(label) - start - len(inner)
    name = "%2E" * start + "".join(c if c in PLAIN else _encode(c) for c in inner) + "%2E" * end
    if _DEVICE.fullmatch(name):
        name = _encode(name[0]) + name[1:]
    return _bounded(name, label)


def file_name_with_capitals(label: str) -> str:
    """Return the file name of `label` in early run folders: capital letters and dots at the end are kept.

    Use this function only to find files in such folders: on some file systems, two labels can have the same
    file name.
    """
    rest = label.lstrip(".")
    dots = "%2E" * (len(label) - len(rest))
    return _bounded(dots + quote(rest, safe="+=", errors="surrogatepass").replace("~", "%7E"), label)


def _encode(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))


def _bounded(name: str, label: str) -> str:
    if len(name) <= MOST:
        return name
    digest = hashlib.sha256(label.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
    return f"{name[: MOST - _DIGITS - 1]}~{digest}"
