"""A block: the batch of samples that an attack receives in one call."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Inputs (m, C, H, W), their labels and target classes, int64 (m,), and positions in the data set."""

    inputs: Tensor
    labels: Tensor
    targets: Tensor
    sample_ids: tuple[int, ...]

    def part(self, rows: Tensor) -> "Block":
        """Return the block of the samples with the indices `rows`, int64 (k,)."""
        ids = tuple(self.sample_ids[row] for row in rows.tolist())
        return Block(self.inputs[rows], self.labels[rows], self.targets[rows], ids)
