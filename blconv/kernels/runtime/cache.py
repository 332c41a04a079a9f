"""Cache of machine code on disk: a network has dozens of kernels that compile in a second or more each.

The folder lies in the user's cache folder. The environment variable BLCONV_CACHE names another folder; if it
is empty, the cache is off.
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


def cached_code(name: str, compile_code: Callable[[], bytes]) -> bytes:
    """Return the machine code cached under `name`, or else that of `compile_code`, which is then cached.

    If the folder cannot be used, the code is compiled and not cached.
    """
    folder = _folder()
    if folder is None:
        return compile_code()
    path = folder / (hashlib.sha256(f"{_sources()} {name}".encode()).hexdigest()[:32] + ".cubin")
    try:
        return path.read_bytes()
    except OSError:
        code = compile_code()
    part = path.with_suffix(f".{uuid4().hex}")  # process ids repeat across machines and containers
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(code)
        part.replace(path)  # other processes see the whole file or none
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
    """Return the hash of all sources and the compiler versions, on which the machine code depends."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]  # kernels/ and all folders in it
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    compilers = [f"{name} {version(name)}" for name in ("numba", "numba-cuda", "llvmlite", "cuda-bindings")]
    return " ".join([digest.hexdigest(), *compilers])
