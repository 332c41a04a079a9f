"""Words of two 16-bit numbers: their vectors in memory, and a warp's matrix product on tensor cores.

A word is 32 bits, and its lower half is the first of the two numbers. The lanes (threads) of a warp are
numbered by g = lane // 4 and t = lane % 4. A product adds a 16 x 16 matrix A times a 16 x 8 matrix B to a
16 x 8 matrix C in float32. k is the index that the product sums over. Each lane holds some entries of the
matrices. The table has the indices of these entries. A word of A or B holds the entries of two successive k,
of which the table gives the first:

    a0 (g, 2t ..)   a1 (g + 8, 2t ..)   a2 (g, 2t + 8 ..)   a3 (g + 8, 2t + 8 ..)    (row, two k)
    b0 (2t .., g)   b1 (2t + 8 .., g)                                                 (two k, column)
    c0 (g, 2t)      c1 (g, 2t + 1)      c2 (g + 8, 2t)      c3 (g + 8, 2t + 1)        (row, column)

In the assembly, $0, $1 and so on are the operands of LLVM's inline assembly, results first. `memory` is the
type of the 16-bit numbers.
"""

from collections.abc import Callable
from typing import Any

from numba import config

from blconv.kernels.primitives.warp import VECTOR_SUFFIX, register_list

SHORT = {"bfloat16": "bf16", "float16": "f16"}


def product_assembly(memory: str) -> str:
    """Return the PTX of the warp's matrix product, for numbers of the type `memory`.

    Its operands are the four results $0 .. $3, the words a0 .. a3 as $4 .. $7 and b0, b1 as $8, $9, and the
    numbers c0 .. c3 as $10 .. $13.
    """
    kind = SHORT[memory]
    sums, a, c = "{$0,$1,$2,$3}", "{$4,$5,$6,$7}", "{$10,$11,$12,$13}"
    return f"mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32 {sums}, {a}, {{$8,$9}}, {c};"


def read_assembly(width: int) -> str:
    """Return the PTX that reads `width` words from global memory.

    Its operands are the `width` results, $0 and so on, and after them the address.
    """
    vector = register_list([f"${i}" for i in range(width)])
    return f"ld.global.nc{VECTOR_SUFFIX[width]}.b32 {vector}, [${width}];"


def write_assembly(width: int) -> str:
    """Return the PTX that writes `width` words to global memory.

    Its operands are the address, $0, and then the words, $1 and so on.
    """
    vector = register_list([f"${i + 1}" for i in range(width)])
    return f"st.global{VECTOR_SUFFIX[width]}.b32 [$0], {vector};"


if config.ENABLE_CUDASIM:
    from blconv.kernels.primitives import simulated_words as simulated

    low_halves, high_halves = simulated.low_halves, simulated.high_halves
    packer, adder, multiplier = simulated.packer, simulated.adder, simulated.multiplier
    reader, writer = simulated.reader, simulated.writer
    shared_reader, shared_writer = simulated.shared_reader, simulated.shared_writer
else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    _float, _word, _long = ir.FloatType(), ir.IntType(32), ir.IntType(64)

    def _parts(builder: Any, value: Any, width: int) -> list[Any]:
        return [value] if width == 1 else [builder.extract_value(value, i) for i in range(width)]

    def _assembly(
        text: str, constraints: str, result: Any, arguments: list[Any], *, effect: bool = False
    ) -> Any:
        return ir.InlineAsm(ir.FunctionType(result, arguments), text, constraints, side_effect=effect)

    def _several(kind: Any, width: int) -> Any:
        return kind if width == 1 else ir.LiteralStructType([kind] * width)

    def _address(builder: Any, pointer: Any, offset: Any, bits: int) -> Any:
        """Return the address of element `offset` of a C pointer to elements of `bits` bits, as an integer."""
        base = builder.ptrtoint(pointer, _long)
        return builder.add(base, builder.mul(offset, ir.Constant(_long, bits // 8)))

    def _words(text: str) -> Callable[..., Any]:
        """Return the device function of two words that runs the PTX instruction `text` and returns a word."""

        @intrinsic
        def combine(typingctx: Any, x: Any, y: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                return builder.call(_assembly(text, "=r,r,r", _word, [_word] * 2), args)

            return types.uint32(types.uint32, types.uint32), codegen

        result: Callable[..., Any] = combine
        return result

    low_halves = _words("prmt.b32 $0, $1, $2, 0x5410;")  # the first numbers of two words
    high_halves = _words("prmt.b32 $0, $1, $2, 0x7632;")  # the second numbers

    def packer(memory: str) -> Callable[..., Any]:
        """Return the device function (x, y) that rounds two float32 to nearest and packs them in one word."""

        @intrinsic
        def pack(typingctx: Any, x: Any, y: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                text = f"cvt.rn.{SHORT[memory]}x2.f32 $0, $2, $1;"
                return builder.call(_assembly(text, "=r,f,f", _word, [_float] * 2), args)

            return types.uint32(types.float32, types.float32), codegen

        result: Callable[..., Any] = pack
        return result

    def adder(memory: str) -> Callable[..., Any]:
        """Return the device function (x, y, z) that computes x * y + z for both numbers of each word.

        Each result is rounded once.
        """

        @intrinsic
        def add(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                text = f"fma.rn.{SHORT[memory]}x2 $0, $1, $2, $3;"
                return builder.call(_assembly(text, "=r,r,r,r", _word, [_word] * 3), args)

            return types.uint32(*[types.uint32] * 3), codegen

        result: Callable[..., Any] = add
        return result

    def multiplier(memory: str) -> Callable[..., Any]:
        """Return the device function (a0, .., a3, b0, b1, c0, .., c3) that computes C + A B in a warp.

        a0 .. a3 and b0, b1 are the lane's words of A and B. c0 .. c3 are the lane's numbers of C; these and
        the four results are float32.
        """

        @intrinsic
        def multiply(
            typingctx: Any,
            a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, c0: Any, c1: Any, c2: Any, c3: Any,
        ) -> Any:  # fmt: skip
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                kinds = [_word] * 6 + [_float] * 4
                asm = _assembly(
                    product_assembly(memory), "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", _several(_float, 4), kinds
                )
                parts = _parts(builder, builder.call(asm, args), 4)
                return context.make_tuple(builder, signature.return_type, parts)

            arguments = [types.uint32] * 6 + [types.float32] * 4
            return types.UniTuple(types.float32, 4)(*arguments), codegen

        result: Callable[..., Any] = multiply
        return result

    def reader(width: int, *, again: bool = False) -> Callable[..., Any]:
        """Return the device function (pointer, offset) that reads `width` words of global memory as a tuple.

        The offset counts the 16- or 32-bit numbers that the pointer refers to. The address must be a multiple
        of the size of the vector. With `again`, every call reads the memory: the compiler must not keep the
        words in registers.
        """

        @intrinsic
        def read(typingctx: Any, pointer: Any, offset: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                bits = signature.args[0].dtype.bitwidth
                text, result = read_assembly(width), _several(_word, width)
                asm = _assembly(text, "=r," * width + "l", result, [_long], effect=again)
                value = builder.call(asm, [_address(builder, args[0], args[1], bits)])
                return context.make_tuple(builder, signature.return_type, _parts(builder, value, width))

            return types.UniTuple(types.uint32, width)(pointer, types.int64), codegen

        result: Callable[..., Any] = read
        return result

    def writer(width: int) -> Callable[..., Any]:
        """Return the device function (pointer, offset, words) that writes `width` words to global memory.

        The first `width` words of the local array `words` are written. The offset counts the 16- or 32-bit
        numbers that the pointer refers to. The address must be a multiple of the size of `width` words.
        """

        @intrinsic
        def write(typingctx: Any, pointer: Any, offset: Any, words: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                bits = signature.args[0].dtype.bitwidth
                data = context.make_array(signature.args[2])(context, builder, args[2]).data
                parts = [builder.load(builder.gep(data, [_word(n)])) for n in range(width)]
                constraints = "l" + ",r" * width + ",~{memory}"
                kinds = [_long] + [_word] * width
                asm = _assembly(write_assembly(width), constraints, ir.VoidType(), kinds, effect=True)
                builder.call(asm, [_address(builder, args[0], args[1], bits), *parts])
                return context.get_dummy_value()

            return types.void(pointer, types.int64, words), codegen

        result: Callable[..., Any] = write
        return result

    def _shared(context: Any, builder: Any, signature: Any, args: Any, width: int) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.gep(data, [args[1]])
        return builder.bitcast(place, ir.VectorType(_word, width).as_pointer())

    def shared_reader(width: int) -> Callable[..., Any]:
        """Return the device function (shared array, offset) that reads `width` words at once, as a tuple."""

        @intrinsic
        def get(typingctx: Any, array: Any, offset: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                vector = builder.load(_shared(context, builder, signature, args, width), align=4 * width)
                parts = [builder.extract_element(vector, _word(n)) for n in range(width)]
                return context.make_tuple(builder, signature.return_type, parts)

            return types.UniTuple(types.uint32, width)(array, types.int64), codegen

        result: Callable[..., Any] = get
        return result

    def shared_writer(width: int) -> Callable[..., Any]:
        """Return the device function (shared array, offset, words) that writes `width` words at once."""

        @intrinsic
        def put(typingctx: Any, array: Any, offset: Any, words: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                data = context.make_array(signature.args[2])(context, builder, args[2]).data
                vector = ir.Constant(ir.VectorType(_word, width), ir.Undefined)
                for n in range(width):
                    number = builder.load(builder.gep(data, [_word(n)]))
                    vector = builder.insert_element(vector, number, _word(n))
                builder.store(vector, _shared(context, builder, signature, args, width), align=4 * width)
                return context.get_dummy_value()

            return types.void(array, types.int64, words), codegen

        result: Callable[..., Any] = put
        return result
