"""A CUDA kernel: compiled by Numba, linked and loaded once per device, launched through the driver.

Numba's own launch takes about 30 us per call, and its view of a tensor 15 us. A launch through the driver
with plain pointers takes a few. So Numba only compiles a kernel, and the driver launches it. By default it is
launched on torch's current stream, so that CUDA graphs and several streams work.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import Lock, local
from typing import Any

import torch
from torch import Tensor

from blconv.kernels.runtime import cache

STATIC_SHARED_BYTES = 48 * 1024  # a kernel needs an attribute of the driver for more
_compile_lock = Lock()
_thread = local()


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel function and the parameters of its launch.

    `function` is plain Python in Numba's CUDA dialect. `signature` has the types of its parameters:
    "float32*", "uint16*" (for bfloat16 and float16, as bits), "int32*", "int64", "int32", "float32" and the
    like. A CUDA block has `threads` threads and `shared_bytes` bytes of dynamic shared memory. `constants` is
    an object whose repr identifies the constants that the function has captured. If it is None, the machine
    code is not cached on disk (`blconv.kernels.runtime.cache`).
    """

    function: Callable[..., None]
    signature: tuple[str, ...]
    threads: int
    shared_bytes: int = 0
    constants: object = None
    _loaded: dict[int, Any] = field(default_factory=dict, repr=False)

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

    def launch(self, blocks: int, *arguments: Tensor | int | float, stream: Any = None) -> None:
        """Launch a grid of `blocks` CUDA blocks on `stream`, by default the current stream of the device.

        The device is that of the first argument, which must be a tensor. If it is the CPU, the kernel runs in
        Numba's simulator. Tensors are passed as pointers to their first element, so the caller must check
        their strides.
        """
        first = arguments[0]
        assert isinstance(first, Tensor)
        if first.device.type == "cpu":
            self._simulate(blocks, arguments)
            return
        index = first.device.index
        if torch.cuda.current_device() != index:
            with torch.cuda.device(index):
                self.launch(blocks, *arguments, stream=stream)
            return
        set_context(index)
        function = self._loaded.get(index) or self._load(index)
        values = tuple([a.data_ptr() if isinstance(a, Tensor) else a for a in arguments])
        stream = torch._C._cuda_getCurrentRawStream(index) if stream is None else stream
        (status,) = driver().cuLaunchKernel(
            function, blocks, 1, 1, self.threads, 1, 1, self.shared_bytes, stream,
            (values, self._c_types), 0,
        )  # fmt: skip
        if status:
            check(status)

    def _load(self, index: int) -> Any:
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
                self._loaded[index] = function
        return self._loaded[index]

    def _simulate(self, blocks: int, arguments: tuple[Tensor | int | float, ...]) -> None:
        """Run the kernel on CPU tensors in Numba's simulator, with a Python thread for each CUDA thread."""
        from numba import cuda

        values = [
            a.detach().as_strided((a.numel(),), (1,)).view(_NUMPY.get(a.dtype, a.dtype)).numpy()
            if isinstance(a, Tensor)
            else a
            for a in arguments
        ]
        cuda.jit(self.function)[blocks, self.threads, 0, self.shared_bytes](*values)

    def _numba_types(self) -> tuple[Any, ...]:
        from numba import types

        return tuple(
            types.CPointer(getattr(types, name[:-1])) if name.endswith("*") else getattr(types, name)
            for name in self.signature
        )

    @cached_property
    def _c_types(self) -> tuple[Any, ...]:
        return tuple(
            ctypes.c_void_p if name.endswith("*") else getattr(ctypes, C_TYPES[name])
            for name in self.signature
        )


_NUMPY = {torch.bfloat16: torch.uint16, torch.float16: torch.uint16}
C_TYPES = {"int64": "c_int64", "int32": "c_int32", "float32": "c_float"}


@lru_cache(maxsize=1)
def driver() -> Any:
    """Return the module with the Python bindings of the CUDA driver."""
    from cuda.bindings import driver

    return driver


def set_context(index: int) -> None:
    """Make the context of torch's current device, number `index`, the driver's context in this thread.

    Torch does this at its first call of the driver in a thread. An autograd thread whose memory comes from
    torch's cache may not have made such a call yet.
    """
    if getattr(_thread, "index", None) != index:
        check(*driver().cuCtxSetCurrent(_context(index)))
        _thread.index = index


@lru_cache(maxsize=64)
def _context(index: int) -> Any:
    status, context = driver().cuDevicePrimaryCtxRetain(index)
    check(status)
    return context


def check(status: Any) -> None:
    """Raise `RuntimeError` if a status that the driver has returned is not success."""
    if int(status) != 0:
        raise RuntimeError(f"the CUDA driver returned {status.name}")
