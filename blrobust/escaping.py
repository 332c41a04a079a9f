"""Text from outside the program (paths, names, error messages) in a form that is safe to show."""

import unicodedata


def escape(text: str) -> str:
    """Return the text with control and format characters written as escape sequences, such as `\\x1b`.

    These are the C0 and C1 control characters (among them tab and line feed), line and paragraph separators,
    invisible and direction-changing characters, and lone surrogates. Spaces of every width are kept.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text)


def unicode_text(text: str) -> str:
    """Return the text with lone surrogates, as in file names that are not UTF-8, as escape sequences."""
    return text.encode(errors="backslashreplace").decode()


def escape_lines(text: str) -> str:
    """Return the text escaped as by the function `escape`, but with its line feeds kept."""
    return "\n".join(map(escape, text.split("\n")))


def one_line(text: str) -> str:
    """Return the text as one line, escaped by the function `escape`; white space becomes single spaces."""
    return escape(" ".join(text.split()))
