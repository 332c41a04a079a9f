"""Machine code of kernels, kept on disk: a network has dozens, and each takes a second or more to compile.

The folder is the user's cache, or what BLCONV_CACHE names; an empty BLCONV_CACHE keeps nothing.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from platformdirs import user_cache_path


def cached_code(name: str, compiled: Callable[[], bytes]) -> bytes:
    """The bytes kept under `name`, made by `compiled` where there are none; a bad folder keeps nothing."""
    folder = _folder()
    if folder is None:
        return compiled()
    path = folder / (hashlib.sha256(f"{_sources()} {name}".encode()).hexdigest()[:32] + ".cubin")
    try:
        return path.read_bytes()
    except OSError:
        code = compiled()
    part = path.with_suffix(f".{uuid4().hex}")  # numbers of processes repeat across machines and containers
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(code)
        part.replace(path)  # another process sees all of it or nothing
    except OSError:
        with suppress(OSError):
            part.unlink()
    return code


def _folder() -> Path | None:
    named = os.environ.get("BLCONV_CACHE")
    if named is None:
        return user_cache_path("blconv") / "kernels"
    return Path(named) if named else None


@lru_cache(maxsize=1)
def _sources() -> str:
    """Return what decides on machine code beside a kernel's constants: all sources and the compilers."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]  # kernels/ with all folders below it
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    compilers = [f"{name} {version(name)}" for name in ("numba", "numba-cuda", "llvmlite", "cuda-bindings")]
    return " ".join([digest.hexdigest(), *compilers])
