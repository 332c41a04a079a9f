"""The time of each kernel of one band-limited layer on a GPU, beside the time to move its bytes.

    python benchmarks/kernels.py [--batch 512] [--precision tf32] [--compressions 0.5 0.85]

Times are microseconds, from graph replays of ten calls in a row. In brackets is the share of this time that
is needed to read each input once and write each output once at the bandwidth of a copy. "z V", "g V^T" and
"z^T g" are cuBLAS's matrix products of the forward and the backward pass: z and g are the coefficients of the
input and of the output's gradient, and V are the matrices made from the filters. The layers are 3x3
convolutions with fft_size "compact", channels_last.
"""

import argparse
import statistics
from itertools import product

import torch
from shapes import GROUPS, WIDE, Cut, Layer
from timing import PRECISIONS, Step, copy_bandwidth, milliseconds, repeatable, set_precision
from torch import Tensor

from blconv.kernels import launches
from blconv.methods.spectral import axes_of

CALLS = 10


def main() -> None:
    """Parse the command line and print a line per layer and compression."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--precision", choices=PRECISIONS, default="tf32")
    parser.add_argument("--compressions", type=float, nargs="+", default=[0.5, 0.85])
    options = parser.parse_args()
    device = torch.device("cuda")
    torch.cuda.set_stream(torch.cuda.Stream())
    set_precision(options.precision)
    dtype = PRECISIONS[options.precision]
    bandwidth = copy_bandwidth(device)
    print(f"copy {bandwidth / 1e12:.2f} TB/s")
    for layer, compression in product(GROUPS[WIDE].layers, options.compressions):
        cells = []
        for name, (step, touched) in _steps(layer, compression, options.batch, dtype, device).items():
            microseconds = _microseconds(step, device)
            share = sum(tensor.nbytes for tensor in touched) / bandwidth * 1e6 / microseconds
            cells.append(f"{name} {microseconds:.1f} ({share:.0%})")
        print(f"{layer}, {compression:.0%}: " + ", ".join(cells), flush=True)


def _steps(
    layer: Layer, compression: float, batch: int, dtype: torch.dtype, device: torch.device
) -> dict[str, tuple[Step, tuple[Tensor, ...]]]:
    """Return a layer's kernels and matrix products by name, with the tensors that each reads or writes."""
    inputs, outputs, filters = axes_of(layer.geometry(Cut(compression, "compact")))
    x = torch.randn(layer.input_shape(batch), dtype=dtype, device=device)
    w = torch.randn(layer.weight_shape, dtype=dtype, device=device)
    x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
    z, v = launches.analyse(x, inputs), launches.pack(w, filters)
    turned = launches.pack(w, filters, transposed=True)
    y = torch.bmm(z, v)
    images = launches.synthesise(y, outputs, len(w), True)
    return {
        "analysis": (lambda: launches.analyse(x, inputs), (x, z)),
        "pack": (lambda: launches.pack(w, filters, transposed=True), (w, v)),
        "z V": (lambda: torch.bmm(z, turned.mT), (z, v, y)),
        "synthesis": (lambda: launches.synthesise(y, outputs, len(w), True), (y, images)),
        "g V^T": (lambda: torch.bmm(y, v.mT), (y, v, z)),
        "z^T g": (lambda: torch.bmm(z.mT, y), (z, y, v)),
        "fold": (lambda: launches.fold(v, filters, list(w.shape), True), (v, w)),
    }


def _microseconds(step: Step, device: torch.device) -> float:
    repeated = repeatable(lambda: [step() for _ in range(CALLS)], device)
    return 1000 * statistics.median(milliseconds([repeated], device, 9)[0]) / CALLS


if __name__ == "__main__":
    main()
