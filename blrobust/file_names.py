"""File names for labels of models, which may contain any character."""

import hashlib
from urllib.parse import quote

MOST = 200  # characters of a name; file systems allow 255 bytes, and an ending is added
_DIGITS = 32  # of the checksum that ends the name of a long label


def file_name(label: str) -> str:
    """Return an ASCII file name for a `label` that is not empty. Different labels get different names.

    Letters, digits and `._+=-` are kept, except for dots at the beginning. All other characters are
    percent-encoded as UTF-8, so `urllib.parse.unquote` returns the label. A name of more than `MOST`
    characters is cut and ends in `~` and a checksum of the label. A file with such a name must contain the
    label, because the label does not follow from the name.
    """
    rest = label.lstrip(".")
    dots = "%2E" * (len(label) - len(rest))
    name = dots + quote(rest, safe="+=", errors="surrogatepass").replace("~", "%7E")
    if len(name) <= MOST:
        return name
    digest = hashlib.sha256(label.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
    return f"{name[: MOST - _DIGITS - 1]}~{digest}"
