"""Machine code on disk: what is kept under which name, and what two writers leave."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from blconv.kernels.runtime import cache
from blconv.kernels.runtime.kernel import Kernel


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "some" / "folder"
    monkeypatch.setenv("BLCONV_CACHE", str(path))
    return path


def never():
    raise AssertionError("compiled again")


def test_machine_code_is_kept(folder):
    assert cache.cached_code("a", lambda: b"code") == b"code"
    assert cache.cached_code("a", never) == b"code"
    assert cache.cached_code("b", lambda: b"other") == b"other"
    assert len(list(folder.iterdir())) == 2


def test_nothing_is_kept_where_the_folder_is_empty_or_bad(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    for name in ("", "file", "file/below"):
        monkeypatch.setenv("BLCONV_CACHE", name)
        assert [cache.cached_code("a", lambda code=code: code) for code in (b"1", b"2")] == [b"1", b"2"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_sources_in_every_folder_and_the_compilers_are_in_the_key(folder, tmp_path, monkeypatch):
    """Changed in a copy of the whole tree: a file beside the cache, in another folder, on top, and a name."""
    tree = tmp_path / "kernels"
    shutil.copytree(Path(cache.__file__).parents[1], tree)
    monkeypatch.setattr(cache, "__file__", str(tree / "runtime" / "cache.py"))

    def code():
        cache._sources.cache_clear()
        return cache.cached_code("a", lambda: next(codes))

    codes = iter([b"1", b"2", b"3", b"4", b"5", b"6"])
    found = [code(), code()]
    for name in ("runtime/kernel.py", "transforms/analysis.py", "hadamard.py"):
        path = tree / name
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        found.append(code())
        path.write_bytes(before)
    found.append(code())
    (tree / "hadamard.py").rename(tree / "low_pass" / "hadamard.py")
    found.append(code())
    monkeypatch.setattr(cache, "version", lambda name: "another")
    found.append(code())
    cache._sources.cache_clear()
    assert found == [b"1", b"1", b"2", b"3", b"4", b"1", b"5", b"6"]


def test_kernels_of_the_same_name_and_constants_in_two_files_are_two(folder, monkeypatch):
    def made_by(module):
        def function(x):
            x[0] = 1

        function.__module__ = module
        return Kernel(function, ("float32*",), 32, constants=1)

    codes = iter([(b"1", ""), (b"2", "")])
    monkeypatch.setattr(Kernel, "compile", lambda self, capability: next(codes))
    assert [made_by(name).cubin((9, 0)) for name in ("first", "second", "first")] == [b"1", b"2", b"1"]


def test_a_reader_sees_all_of_a_kept_file_or_nothing(folder, monkeypatch):
    """Also where two writers, on two machines with one disk, have the same number of process."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    code = {"first": b"1" * 100, "second": b"2" * 10}
    waiting, go_on, write = threading.Event(), threading.Event(), Path.write_bytes

    def slowly(path, data):
        if data == code["second"]:
            return write(path, data)
        with path.open("wb", buffering=0) as file:
            file.write(data[:50])
            waiting.set()
            assert go_on.wait(60)
            return file.write(data[50:])

    monkeypatch.setattr(Path, "write_bytes", slowly)
    thread = threading.Thread(target=cache.cached_code, args=("a", lambda: code["first"]))
    thread.start()
    assert waiting.wait(60)
    assert cache.cached_code("a", lambda: code["second"]) in code.values()
    seen = cache.cached_code("a", never)
    go_on.set()
    thread.join()
    assert seen in code.values()
    assert cache.cached_code("a", never) in code.values()
    assert len(list(folder.iterdir())) == 1


def test_a_full_disk(folder, monkeypatch):
    write = Path.write_bytes

    def fill(path, data):
        write(path, data[:2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", fill)
    assert cache.cached_code("a", lambda: b"code") == b"code"
    assert list(folder.iterdir()) == []
