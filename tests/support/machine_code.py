"""Kernels as PTX and machine code; needs no GPU."""

import re
from dataclasses import dataclass

import pytest

from blconv.kernels.runtime.kernel import Kernel


@dataclass(frozen=True)
class MachineCode:
    """A kernel for one compute capability: `ptx`, its part within braces, and registers a thread."""

    ptx: str
    body: str
    registers: int


def machine_code(kernel: Kernel, capability: tuple[int, int]) -> MachineCode:
    """Compile a kernel, and check that it has no local memory, no float64 arithmetic and spills nothing."""
    ptx = kernel.ptx(capability)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "ptx", lambda *_: ptx)  # not compiled again
        report = kernel.compile(capability)[1]
    body = ptx[ptx.index("{") :]
    assert f".target sm_{capability[0]}{capability[1]}" in ptx
    assert ".local" not in ptx
    assert not re.search(r"\.f64\b", body)
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in report
    registers = re.search(r"Used (\d+) registers", report)
    assert registers
    return MachineCode(ptx, body, int(registers[1]))
