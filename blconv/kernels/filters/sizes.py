"""The sizes that the kernels of packing and folding are compiled for; see `blconv.kernels.filters.kernel`."""

from dataclasses import dataclass

from blconv.kernels.primitives.warp import Memory

LANES, WARPS = 32, 8
PACKING_BLOCKS = 1024  # CUDA blocks to aim at: they fill a GPU of 132 multiprocessors several times
TABLE_NUMBERS = 1024  # numbers of the table that a packing block holds, at most, unless one matrix has more
FOLDING_BLOCKS, FOLDING_WARPS = 256, 16  # CUDA blocks to aim at; warps of a block, at most
FOLDING_READ_AHEAD = 24  # numbers that a lane reads before it uses the first


@dataclass(frozen=True)
class FilterSizes:
    """The sizes and the types of a kernel of packing or folding."""

    channels: int
    outputs: int
    taps: int
    matrices: int  # Q
    parts: tuple[int, int]  # rows and columns of a matrix for each pair of channels
    complex: bool  # whether a matrix is [[re, im], [-im, re]] for each pair of channels
    channels_last: bool  # in the memory of w
    memory: Memory
    transposed: bool = False  # whether the rows of V are outputs
    rounds_to_tf32: bool = False  # whether V is rounded to the precision of tensor cores

    @property
    def packing_block(self) -> tuple[int, int]:
        """Numbers of output and of input channels that a CUDA block of the packing kernel computes."""
        return (WARPS, LANES) if self.transposed else (LANES, WARPS)

    @property
    def packing_tiles(self) -> int:
        """Number of CUDA blocks of the packing kernel that cover all pairs of output and input channels."""
        return -(-self.outputs // self.packing_block[0]) * -(-self.channels // self.packing_block[1])

    @property
    def weight_strides(self) -> tuple[int, int, int]:
        """Strides of w in memory between output channels, input channels and taps, in elements."""
        row = self.channels * self.taps
        return (row, 1, self.channels) if self.channels_last else (row, self.taps, 1)

    @property
    def entries(self) -> int:
        """Number of entries that a matrix has for each pair of an input and an output channel."""
        return self.parts[0] * self.parts[1]

    @property
    def table_numbers(self) -> int:
        """Number of factors in the constant table for each matrix."""
        return self.taps * self.entries

    @property
    def packing_run(self) -> int:
        """Number of successive matrices q; a CUDA block of the packing kernel computes a part of each."""
        most = max(1, TABLE_NUMBERS // self.table_numbers)
        return min(-(-self.matrices * self.packing_tiles // PACKING_BLOCKS), most)

    @property
    def packing_blocks(self) -> int:
        """Number of CUDA blocks in the grid of the packing kernel."""
        return self.packing_tiles * -(-self.matrices // self.packing_run)

    @property
    def row_stride(self) -> int:
        """Distance, in elements, between the filters of two successive output channels in shared memory.

        The packing kernel copies its filters to shared memory. The distance is 1 modulo 32, which avoids bank
        conflicts.
        """
        dense = self.packing_block[1] * self.taps
        return dense + (1 - dense) % LANES

    @property
    def packing_bytes(self) -> int:
        """Bytes of shared memory that a CUDA block of the packing kernel needs for table and filters.

        If the matrices are transposed, only the table is in shared memory.
        """
        staged = 0 if self.transposed else self.packing_block[0] * self.row_stride
        return 4 * (self.packing_run * self.table_numbers + staged)

    @property
    def folding_channels(self) -> int:
        """Number of input channels that a CUDA block of the folding kernel computes."""
        across = WARPS
        while across > 1 and -(-self.outputs // LANES) * -(-self.channels // across) < FOLDING_BLOCKS:
            across //= 2
        return across

    @property
    def folding_warps(self) -> int:
        """Number of warps that share the matrices of an input channel in the folding kernel."""
        most = FOLDING_WARPS if self.taps <= 9 else WARPS
        return max(1, min(most // self.folding_channels, 1 << (self.matrices // 2).bit_length() >> 1))

    @property
    def folding_blocks(self) -> int:
        """Number of CUDA blocks in the grid of the folding kernel."""
        return -(-self.outputs // LANES) * -(-self.channels // self.folding_channels)

    @property
    def folding_bytes(self) -> int:
        """Bytes of shared memory that a CUDA block of the folding kernel needs for the sums of its warps."""
        return 4 * self.folding_warps * self.folding_channels * self.taps * (LANES + 1)
