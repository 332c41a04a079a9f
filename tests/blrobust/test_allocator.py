"""Freed memory is kept: a second large block causes no page faults."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from blrobust.allocator import keep_freed_blocks
keep_freed_blocks()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(64 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc")
def test_a_block_of_the_same_size_causes_no_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > 100
    assert second < first / 10
