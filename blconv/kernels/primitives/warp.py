"""Functions that Numba lacks: vectors of global memory, and a warp's matrix product on tensor cores.

The lanes (threads) of a warp are numbered by g = lane // 4 and t = lane % 4. `mma` adds the product of a
16 x 8 matrix A and an 8 x 8 matrix B to a 16 x 8 matrix C in float32. k is the index that the product sums
over. Each lane holds some entries of the matrices. The table has the indices of these entries:

    a0 (g, t)   a1 (g + 8, t)   a2 (g, t + 4)   a3 (g + 8, t + 4)        (row, k)
    b0 (t, g)   b1 (t + 4, g)                                             (k, column)
    c0 (g, 2t)  c1 (g, 2t + 1)  c2 (g + 8, 2t)  c3 (g + 8, 2t + 1)        (row, column)

Loads convert numbers of any type to float32, and use the read-only data path. 16-bit numbers (bfloat16 and
float16) are passed as uint16 with the same bits.

In the assembly, $0, $1 and so on are the operands of LLVM's inline assembly, results first.
"""

from collections.abc import Callable
from typing import Any, Literal

from numba import config, cuda

Memory = Literal["float32", "bfloat16", "float16"]

MMA = (
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
    "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
)
VECTOR_SUFFIX = {1: "", 2: ".v2", 4: ".v4"}


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled for use inside kernels, where it is inlined."""
    compiled: Callable[..., Any] = cuda.jit(function, device=True, inline=True)
    return compiled


def register_list(names: list[str]) -> str:
    """Return a list of registers in the syntax of PTX; one register needs no braces."""
    return names[0] if len(names) == 1 else f"{{{','.join(names)}}}"


def load_assembly(dtype: str, width: int) -> str:
    """Return the PTX that reads `width` numbers of `dtype` from global memory as float32.

    Its operands are the `width` results, $0 and so on, and after them the address.
    """
    if dtype == "float32":
        vector = register_list([f"${i}" for i in range(width)])
        return f"ld.global.nc{VECTOR_SUFFIX[width]}.f32 {vector}, [${width}];"
    if width == 1:
        read = f"{{ .reg .b16 h; .reg .b32 w; ld.global.nc.b16 h, [${width}]; "
        if dtype == "float16":
            return read + "cvt.f32.f16 $0, h; }"
        return read + "cvt.u32.u16 w, h; shl.b32 w, w, 16; mov.b32 $0, w; }"
    words = [f"w{i}" for i in range(width // 2)]
    read = f"{{ .reg .b32 w, {', '.join(words)}; .reg .b16 l, h; "
    vector = register_list(words)
    read += f"ld.global.nc{VECTOR_SUFFIX[width // 2]}.b32 {vector}, [${width}]; "
    for i, word in enumerate(words):
        if dtype == "float16":
            read += f"mov.b32 {{l, h}}, {word}; cvt.f32.f16 ${2 * i}, l; cvt.f32.f16 ${2 * i + 1}, h; "
        else:
            read += f"shl.b32 w, {word}, 16; mov.b32 ${2 * i}, w; "
            read += f"and.b32 w, {word}, 0xffff0000; mov.b32 ${2 * i + 1}, w; "
    return read + "}"


def store_assembly(dtype: str, width: int) -> str:
    """Return the PTX that writes `width` float32 numbers as `dtype`, rounded to nearest, to global memory.

    Its operands are the address, $0, and then the numbers, $1 and so on.
    """
    if dtype == "float32":
        vector = register_list([f"${i + 1}" for i in range(width)])
        return f"st.global{VECTOR_SUFFIX[width]}.f32 [$0], {vector};"
    short = {"bfloat16": "bf16", "float16": "f16"}[dtype]
    if width == 1:
        return f"{{ .reg .b16 h; cvt.rn.{short}.f32 h, $1; st.global.b16 [$0], h; }}"
    words = [f"w{i}" for i in range(width // 2)]
    write = f"{{ .reg .b32 {', '.join(words)}; "
    for i, word in enumerate(words):
        write += f"cvt.rn.{short}x2.f32 {word}, ${2 * i + 2}, ${2 * i + 1}; "
    return write + f"st.global{VECTOR_SUFFIX[width // 2]}.b32 [$0], {register_list(words)}; }}"


if config.ENABLE_CUDASIM:
    from blconv.kernels.primitives import simulated

    mma, tf32, loader, storer, store_pair, shared_four = (
        simulated.mma, simulated.tf32, simulated.loader, simulated.storer, simulated.store_pair,
        simulated.shared_four,
    )  # fmt: skip
else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    _float, _int, _long = ir.FloatType(), ir.IntType(32), ir.IntType(64)

    def _address(context: Any, builder: Any, pointer: Any, offset: Any, bits: int) -> Any:
        """Return the address of element `offset` of a C pointer to elements of `bits` bits, as an integer."""
        base = builder.ptrtoint(pointer, _long)
        return builder.add(base, builder.mul(offset, ir.Constant(_long, bits // 8)))

    def _several(width: int) -> Any:
        return types.float32 if width == 1 else types.UniTuple(types.float32, width)

    def _result(width: int) -> Any:
        return _float if width == 1 else ir.LiteralStructType([_float] * width)

    def _tuple(context: Any, builder: Any, value: Any, width: int) -> Any:
        if width == 1:
            return value
        parts = [builder.extract_value(value, i) for i in range(width)]
        return context.make_tuple(builder, types.UniTuple(types.float32, width), parts)

    @intrinsic
    def tf32(typingctx: Any, x: Any) -> Any:
        """Return x rounded to the 10 bits of mantissa that tensor cores read, ties away from zero."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_int, [_float])
            asm = ir.InlineAsm(kind, "cvt.rna.tf32.f32 $0, $1;", "=r,f")
            return builder.bitcast(builder.call(asm, args), _float)

        return types.float32(types.float32), codegen

    @intrinsic
    def mma(
        typingctx: Any, a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any,
        c0: Any, c1: Any, c2: Any, c3: Any,
    ) -> Any:  # fmt: skip
        """Return the lane's four numbers of C + A B; those of A and B must be rounded by `tf32` before."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_result(4), [_int] * 6 + [_float] * 4)
            asm = ir.InlineAsm(kind, MMA, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f")
            bits = [builder.bitcast(value, _int) for value in args[:6]]
            return _tuple(context, builder, builder.call(asm, [*bits, *args[6:]]), 4)

        return _several(4)(*[types.float32] * 10), codegen

    @intrinsic
    def store_pair(typingctx: Any, array: Any, offset: Any, x: Any, y: Any) -> Any:
        """Write x and y to a shared array at an even offset, in one instruction."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            pair = ir.VectorType(_float, 2)
            vector = builder.insert_element(ir.Constant(pair, ir.Undefined), args[2], _int(0))
            vector = builder.insert_element(vector, args[3], _int(1))
            place = builder.bitcast(builder.gep(data, [args[1]]), pair.as_pointer())
            builder.store(vector, place, align=8)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.float32, types.float32), codegen

    @intrinsic
    def shared_four(typingctx: Any, array: Any, offset: Any) -> Any:
        """Return four neighbours of a shared array, read in one instruction from an offset divisible by 4."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            four = ir.VectorType(_float, 4)
            vector = builder.load(builder.bitcast(builder.gep(data, [args[1]]), four.as_pointer()), align=16)
            parts = [builder.extract_element(vector, _int(i)) for i in range(4)]
            return context.make_tuple(builder, types.UniTuple(types.float32, 4), parts)

        return _several(4)(array, types.int64), codegen

    def loader(dtype: str, width: int, *, again: bool = False, written: bool = False) -> Callable[..., Any]:
        """Return the device function (pointer, offset) that reads `width` numbers of `dtype` as float32.

        The function returns a number if `width` is 1, otherwise a tuple. The address must be a multiple of
        the size of the vector. With `again`, every call reads the memory: the compiler must not keep the
        values in registers. `written` states whether the kernel also writes to this memory.
        """
        bits = 32 if dtype == "float32" else 16

        @intrinsic
        def load(typingctx: Any, pointer: Any, offset: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                kind = ir.FunctionType(_result(width), [_long])
                text = load_assembly(dtype, width)
                text = text.replace(".nc", "") if written else text
                asm = ir.InlineAsm(kind, text, "=f," * width + "l", side_effect=again or written)
                value = builder.call(asm, [_address(context, builder, args[0], args[1], bits)])
                return _tuple(context, builder, value, width)

            return _several(width)(pointer, types.int64), codegen

        result: Callable[..., Any] = load
        return result

    def storer(dtype: str, width: int) -> Callable[..., Any]:
        """Return the device function (pointer, offset, values) that writes `width` float32 as `dtype`.

        `values` is a number if `width` is 1, otherwise a tuple. The address must be a multiple of
        the size of the vector.
        """
        bits = 32 if dtype == "float32" else 16

        @intrinsic
        def store(typingctx: Any, pointer: Any, offset: Any, values: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                kind = ir.FunctionType(ir.VoidType(), [_long] + [_float] * width)
                text = store_assembly(dtype, width)
                asm = ir.InlineAsm(kind, text, "l" + ",f" * width + ",~{memory}", side_effect=True)
                address = _address(context, builder, args[0], args[1], bits)
                parts = [builder.extract_value(args[2], i) for i in range(width)] if width > 1 else [args[2]]
                builder.call(asm, [address, *parts])
                return context.get_dummy_value()

            return types.void(pointer, types.int64, _several(width)), codegen

        result: Callable[..., Any] = store
        return result
