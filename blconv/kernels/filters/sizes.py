"""The sizes that the kernels of packing and folding are compiled for."""

from dataclasses import dataclass

from blconv.kernels.primitives.warp import Memory

LANES, WARPS = 32, 8
PACKING_BLOCKS = 1024  # target: fills a GPU of 132 multiprocessors several times
TABLE_NUMBERS = 1024  # of the table in a block of packing, at most, unless one q has more
FOLDING_BLOCKS, FOLDING_WARPS = 256, 16  # target, and at most per block
FOLDING_READ_AHEAD = 24  # numbers that a lane reads before it uses the first


@dataclass(frozen=True)
class FilterSizes:
    """The sizes and the types of one kernel."""

    channels: int
    outputs: int
    taps: int
    matrices: int  # Q
    parts: tuple[int, int]  # inputs and outputs of `table`
    complex: bool  # whether every matrix is [[re, im], [-im, re]]
    channels_last: bool  # in the memory of w
    memory: Memory
    transposed: bool = False  # whether the rows of V are outputs
    rounds_to_tf32: bool = False  # whether V is rounded to the precision of tensor cores

    @property
    def packing_block(self) -> tuple[int, int]:
        """Output and input channels of a block of packing."""
        return (WARPS, LANES) if self.transposed else (LANES, WARPS)

    @property
    def packing_tiles(self) -> int:
        """Return the number of those thread blocks for one run of q."""
        return -(-self.outputs // self.packing_block[0]) * -(-self.channels // self.packing_block[1])

    @property
    def weight_strides(self) -> tuple[int, int, int]:
        """Strides of w in memory between output channels, input channels and taps."""
        row = self.channels * self.taps
        return (row, 1, self.channels) if self.channels_last else (row, self.taps, 1)

    @property
    def entries(self) -> int:
        """Entries of a matrix per pair of channels."""
        return self.parts[0] * self.parts[1]

    @property
    def table_numbers(self) -> int:
        """Numbers of the table for one q."""
        return self.taps * self.entries

    @property
    def packing_run(self) -> int:
        """Number of q of a block of packing."""
        most = max(1, TABLE_NUMBERS // self.table_numbers)
        return min(-(-self.matrices * self.packing_tiles // PACKING_BLOCKS), most)

    @property
    def packing_blocks(self) -> int:
        """Return the number of thread blocks of the kernel that packs the filters' spectra."""
        return self.packing_tiles * -(-self.matrices // self.packing_run)

    @property
    def row_stride(self) -> int:
        """Stride of a block's filters between output channels; 1 modulo 32 avoids bank conflicts."""
        dense = self.packing_block[1] * self.taps
        return dense + (1 - dense) % LANES

    @property
    def packing_bytes(self) -> int:
        """Bytes of shared memory for a block's table and filters; without filters if V is transposed."""
        staged = 0 if self.transposed else self.packing_block[0] * self.row_stride
        return 4 * (self.packing_run * self.table_numbers + staged)

    @property
    def folding_channels(self) -> int:
        """Input channels of a block of folding."""
        across = WARPS
        while across > 1 and -(-self.outputs // LANES) * -(-self.channels // across) < FOLDING_BLOCKS:
            across //= 2
        return across

    @property
    def folding_warps(self) -> int:
        """Warps of folding that share the q of a channel."""
        most = FOLDING_WARPS if self.taps <= 9 else WARPS
        return max(1, min(most // self.folding_channels, 1 << (self.matrices // 2).bit_length() >> 1))

    @property
    def folding_blocks(self) -> int:
        """Blocks of folding."""
        return -(-self.outputs // LANES) * -(-self.channels // self.folding_channels)

    @property
    def folding_bytes(self) -> int:
        """Bytes of shared memory for the sums of a block's warps."""
        return 4 * self.folding_warps * self.folding_channels * self.taps * (LANES + 1)
