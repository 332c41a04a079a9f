"""Checkpoints at an https address: `BLROBUST_WEIGHTS=https://HOST/PATH`, with the list PATH/SHA256SUMS.

A file is fetched when a model name needs it, and kept in the user's cache folder under its checksum, which is
verified before each use. The list is fetched once per process; a copy of it serves where there is no network.
"""

import hashlib
import os
import re
import urllib.request
from functools import cache
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import platformdirs

from blrobust import atomic_write, regular_file
from blrobust.errors import LONGEST, UserError, reason, shorten
from blrobust.progress import Steps
from blrobust.user_paths import is_address

VARIABLE = "BLROBUST_WEIGHTS"
LIST = "SHA256SUMS"
LEGAL = "legal: a folder, or an address https://HOST/PATH (http for localhost only)"
TIMEOUT = 20.0  # seconds without a byte
MOST_LIST = 1_000_000  # bytes
MOST_FILE = 2**30  # bytes; a ResNet-18 has 22 million
MEGABYTE = 10**6
_LOCAL = ("localhost", "127.0.0.1", "::1")
_LINE = re.compile(r"(?P<checksum>[0-9a-f]{64}) [ *](?P<stem>[\w-][\w.-]*)\.safetensors", re.ASCII)


def address() -> str | None:
    """Return the address in `BLROBUST_WEIGHTS`, without a slash at its end; None if it is a folder or unset.

    Raises `UserError` for an address that is not legal.
    """
    text = os.environ.get(VARIABLE, "")
    if not is_address(text):
        return None
    _check(text)
    return text.rstrip("/")


def listed() -> dict[str, str]:
    """Return the checksums of the checkpoints at the address, by file name without the ending.

    There are none without an address. Raises `UserError` if the list cannot be fetched, and if it is not one.
    """
    place = address()
    return {} if place is None else _listed(place)


def fetched() -> dict[str, Path]:
    """Return the files of the list that are in the cache folder, by name without the ending."""
    paths = {stem: _cached(stem, checksum) for stem, checksum in listed().items()}
    return {stem: path for stem, path in paths.items() if path.is_file()}


def fetch(stem: str) -> Path | None:
    """Return the checkpoint with the name `stem` in the cache folder; None if the list does not have it.

    It is fetched with progress on stderr unless it is there with the listed checksum. Raises `UserError` if
    it cannot be fetched or has another checksum.
    """
    checksum = listed().get(stem)
    if checksum is None:
        return None
    path = _cached(stem, checksum)
    if path.is_file() and _checksum(regular_file.read_bytes(path, most=MOST_FILE)) == checksum:
        return path
    url = f"{address()}/{stem}.safetensors"
    content = _download(url, most=MOST_FILE, name=stem)
    if (found := _checksum(content)) != checksum:
        raise UserError(f"{VARIABLE}: got {url} with the checksum {found}; legal: {checksum}, as in {LIST}")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.write_bytes(path, content)
    return path


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _cached(stem: str, checksum: str) -> Path:
    return _folder() / checksum[:16] / f"{stem}.safetensors"


def _folder() -> Path:
    return platformdirs.user_cache_path("blrobust") / "weights"


@cache
def _listed(place: str) -> dict[str, str]:
    copy = _folder() / f"{_checksum(place.encode())[:16]}.{LIST}"
    url = f"{place}/{LIST}"
    try:
        content = _download(url, most=MOST_LIST)
    except UserError:
        if not copy.is_file():
            raise
        return _parsed(regular_file.read_bytes(copy, most=MOST_LIST), str(copy))
    found = _parsed(content, url)
    copy.parent.mkdir(parents=True, exist_ok=True)
    atomic_write.write_bytes(copy, content)
    return found


def _parsed(content: bytes, source: str) -> dict[str, str]:
    """Return the checksums in a list; raise `UserError` if it has none of a checkpoint."""
    lines = map(_LINE.fullmatch, content.decode(errors="replace").splitlines())
    found = {line["stem"]: line["checksum"] for line in lines if line}
    if not found:
        raise UserError(
            f"{VARIABLE}: got {source} without a checkpoint; legal: lines CHECKSUM  NAME.safetensors, as "
            "sha256sum prints them"
        )
    return found


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to legal addresses only: none from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request; raise `UserError` for an address that is not legal."""
        _check(newurl, query=True)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, *, most: int, name: str | None = None) -> bytes:
    """Return the content at `url`, at most `most` bytes, with progress on stderr if it has a `name`.

    Raises `UserError` if it cannot be fetched or is larger.
    """
    opener = urllib.request.build_opener(_Redirects)
    content = bytearray()
    try:
        with opener.open(url, timeout=TIMEOUT) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            total = -(-size // MEGABYTE)
            with Steps(unit="MB") as steps:
                while len(content) <= most and (block := answer.read(MEGABYTE)):
                    content += block
                    if name and size:
                        steps.update(min(-(-len(content) // MEGABYTE), total), total, name)
    except UserError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        told = shorten(reason(error), LONGEST)
        raise UserError(f"{VARIABLE}: {url} cannot be fetched: {told}; {LEGAL}") from error
    if len(content) > most:
        raise UserError(f"{VARIABLE}: got {url} with more than {most:,} bytes; legal: at most {most:,}")
    if size and len(content) < size:
        raise UserError(f"{VARIABLE}: {url} ended after {len(content):,} of {size:,} bytes; try again")
    return bytes(content)


def _check(url: str, *, query: bool = False) -> None:
    """Raise `UserError` for an address that is not legal; only one with `query` may have parameters."""
    got = f"{VARIABLE}: got {shorten(url)}; {LEGAL}"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # checks it
    except ValueError:
        raise UserError(got) from None
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
    is_plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if not (is_safe and is_plain and parts.hostname and (query or not (parts.query or parts.fragment))):
        raise UserError(got)
