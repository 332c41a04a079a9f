"""A CUDA kernel: compiled by Numba, and linked and loaded once per device.

Numba's own launch takes about 30 us per call, and its view of a tensor 15 us. So Numba only compiles a
kernel, and the CUDA driver launches it with plain pointers (`blconv.kernels.runtime.program`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from blconv.kernels.runtime import cache
from blconv.kernels.runtime.driver import check, driver

STATIC_SHARED_BYTES = 48 * 1024  # a kernel needs an attribute of the driver for more
_compile_lock = Lock()


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel function and the parameters of its launch.

    `function` is plain Python in Numba's CUDA dialect. `signature` has the types of its parameters, such as
    "float32*", "uint16*" (for bfloat16 and float16, as integers with the same bits), "int32*", "int64" and
    "float32". In the simulator, a tensor is viewed as the type of its parameter. A CUDA block has `threads`
    threads and `shared_bytes` bytes of dynamic shared memory. `constants` is an object whose repr identifies
    the constants that the function has captured. If `constants` is None, the machine code is not cached on
    disk (`blconv.kernels.runtime.cache`).
    """

    function: Callable[..., None]
    signature: tuple[str, ...]
    threads: int
    shared_bytes: int = 0
    constants: object = None
    _loaded: dict[int, int] = field(default_factory=dict, repr=False)

    def ptx(self, capability: tuple[int, int]) -> str:
        """Return the PTX for a compute capability, (major, minor). Needs no GPU."""
        from numba import cuda

        text: str
        text, _ = cuda.compile(
            self.function, self._numba_types(), cc=capability, device=False, abi="numba", output="ptx"
        )
        return text

    def cubin(self, capability: tuple[int, int]) -> bytes:
        """Return the machine code for a compute capability (major, minor), from the cache or compiled now."""
        if self.constants is None:
            return self.compile(capability)[0]
        function = f"{self.function.__module__}.{self.function.__name__}"
        name = f"{function} {self.signature} {self.constants!r} {capability}"
        return cache.cached_code(name, lambda: self.compile(capability)[0])

    def compile(self, capability: tuple[int, int]) -> tuple[bytes, str]:
        """Compile; return the machine code and the assembler's report of its resources. Needs no GPU."""
        from cuda.core import Linker, LinkerOptions, ObjectCode

        options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", ptxas_options=["-v"])
        linker = Linker(ObjectCode.from_ptx(self.ptx(capability).encode()), options=options)
        return linker.link("cubin").code, linker.get_info_log()

    def load(self, index: int) -> int:
        """Return the driver's handle of the kernel on device `index`, the current device."""
        cuda = driver()
        with _compile_lock:
            if index not in self._loaded:
                code = self.cubin(torch.cuda.get_device_capability(index))
                status, module = cuda.cuModuleLoadData(code)
                check(status)
                status, (function,) = cuda.cuModuleEnumerateFunctions(1, module)
                check(status)
                if self.shared_bytes > STATIC_SHARED_BYTES:
                    attribute = cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                    check(*cuda.cuFuncSetAttribute(function, attribute, self.shared_bytes))
                self._loaded[index] = int(function)
        return self._loaded[index]

    def simulate(self, blocks: int, arguments: tuple[Tensor | int | float, ...]) -> None:
        """Run the kernel on CPU tensors in Numba's simulator, with a Python thread for each CUDA thread."""
        from numba import cuda

        values = [
            a.detach().as_strided((a.numel(),), (1,)).view(getattr(torch, kind[:-1])).numpy()
            if isinstance(a, Tensor)
            else a
            for a, kind in zip(arguments, self.signature, strict=True)
        ]
        cuda.jit(self.function)[blocks, self.threads, 0, self.shared_bytes](*values)

    def _numba_types(self) -> tuple[Any, ...]:
        from numba import types

        return tuple(
            types.CPointer(getattr(types, name[:-1])) if name.endswith("*") else getattr(types, name)
            for name in self.signature
        )
