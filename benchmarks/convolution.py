"""One band-limited layer beside its peers: time, ratio to the better ordinary convolution, memory.

    python benchmarks/convolution.py [--device cpu|cuda] [--dtype float32] [--batch 64] [--quick] [--out DIR]

A ratio below 1 is faster than the better of torch's NCHW and channels_last convolutions of the same
type, measured in the same run. GPU times are CUDA-graph replays between events; CPU times are wall
times. Each figure is a median. Writes convolution.json and convolution.md.
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from blconv.functional import band_limited_conv2d

Layer = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    """A 3x3 layer with as many output as input channels, stride 1, padding 1."""

    channels: int
    size: int

    def __str__(self) -> str:
        return f"{self.channels}@{self.size}"


SHAPES = {
    "ResNet-18, wide": [Shape(64, 32), Shape(128, 16), Shape(256, 8), Shape(512, 4)],
    "the authors' ResNet-18": [Shape(64, 16), Shape(128, 8), Shape(256, 4), Shape(512, 2)],
    "ResNet-20": [Shape(16, 32), Shape(32, 16), Shape(64, 8)],
}
BANDS = [(0.5, "compact"), (0.75, "compact"), (0.85, "compact"), (0.5, "paper"), (0.85, "paper")]


def ordinary(x: Tensor, weight: Tensor) -> Tensor:
    """torch's convolution in the layout of its input."""
    return F.conv2d(x, weight, padding=1)


def limited(compression: float, fft_size: str, method: str) -> Layer:
    """Our layer by one method."""

    def layer(x: Tensor, weight: Tensor) -> Tensor:
        return band_limited_conv2d(
            x, weight, padding=1, compression=compression, fft_size=fft_size, method=method
        )

    return layer


def recipe(compression: float, fft_size: str) -> Layer:
    """The paper's recipe in plain torch: rfft2, crop, einsum, pad, irfft2; no method of ours."""

    def layer(x: Tensor, weight: Tensor) -> Tensor:
        size = x.shape[-1] + 2
        points = size if fft_size == "compact" else 1 << (2 * size - 4).bit_length()
        k = max(1, int((points // 2 + 1) * math.sqrt(1 - compression)))
        z = torch.fft.rfft2(F.pad(x, (1, 1, 1, 1)), s=(points, points))
        v = torch.fft.rfft2(weight, s=(points, points)).conj()
        top = torch.einsum("bchw,ochw->bohw", z[..., :k, :k], v[..., :k, :k])
        spectrum = z.new_zeros(x.shape[0], weight.shape[0], points, points // 2 + 1)
        spectrum[..., :k, :k] = top
        if k > 1:
            low = torch.einsum("bchw,ochw->bohw", z[..., 1 - k :, :k], v[..., 1 - k :, :k])
            spectrum[..., 1 - k :, :k] = low
        return torch.fft.irfft2(spectrum, s=(points, points))[..., : x.shape[-1], : x.shape[-1]]

    return layer


def peers(compression: float, fft_size: str) -> dict[str, tuple[Layer, torch.memory_format]]:
    """What is compared at one band, by name: the layer and the layout of its input."""
    table: dict[str, tuple[Layer, torch.memory_format]] = {}
    for method in ("auto", "lowpass", "spectral", "dense"):
        table[method] = (limited(compression, fft_size, method), torch.channels_last)
    table["auto NCHW"] = (limited(compression, fft_size, "auto"), torch.contiguous_format)
    table["paper"] = (limited(compression, fft_size, "paper"), torch.contiguous_format)
    table["recipe"] = (recipe(compression, fft_size), torch.contiguous_format)
    return table


def milliseconds(step: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of `step`."""
    for _ in range(3):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        step = graph.replay
        step()
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        else:
            began = time.perf_counter()
            step()
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def measure(
    layer: Layer,
    shape: Shape,
    layout: torch.memory_format,
    *,
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    backward: bool,
    repeats: int,
) -> float:
    """Milliseconds of one layer forward, or forward and backward."""
    torch.manual_seed(0)
    options = {"device": device, "dtype": dtype}
    x = torch.randn(batch, shape.channels, shape.size, shape.size, **options)
    x = x.contiguous(memory_format=layout).requires_grad_(backward)
    weight = torch.randn(shape.channels, shape.channels, 3, 3, **options) / math.sqrt(9 * shape.channels)
    weight = weight.contiguous(memory_format=layout).requires_grad_(backward)
    gradient = torch.randn_like(x).contiguous(memory_format=layout)

    def step() -> None:
        if backward:
            torch.autograd.grad(layer(x, weight), (x, weight), gradient)
        else:
            with torch.inference_mode():
                layer(x, weight)

    return milliseconds(step, device, repeats)


def main() -> None:
    """Measure everything and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--strict", action="store_true", help="no TF32 on CUDA")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="the first shapes, two bands, no slow peers")
    parser.add_argument("--out", type=Path, default=Path("."))
    arguments = parser.parse_args()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    torch.set_float32_matmul_precision("highest" if arguments.strict else "high")
    torch.backends.cudnn.allow_tf32 = not arguments.strict
    torch.backends.cudnn.benchmark = True
    rows = []
    for group, shapes in list(SHAPES.items())[: 1 if arguments.quick else None]:
        for backward in (False, True):
            options = {
                "batch": arguments.batch, "dtype": dtype, "device": device,
                "backward": backward, "repeats": arguments.repeats,
            }  # fmt: skip
            layouts = (torch.contiguous_format, torch.channels_last)
            base = [min(measure(ordinary, s, layout, **options) for layout in layouts) for s in shapes]
            for compression, fft_size in BANDS[: 3 if arguments.quick else None]:
                for name, (layer, layout) in peers(compression, fft_size).items():
                    if (arguments.quick and name in ("paper", "recipe")) or (
                        name == "dense" and shapes[-1].size > 3
                    ):
                        continue
                    times = [
                        measure(layer, s, layout, **options) if name != "dense" or s.size <= 3 else math.nan
                        for s in shapes
                    ]
                    ratios = [t / b for t, b in zip(times, base, strict=True)]
                    known = [r for r in ratios if r == r]
                    mean = math.exp(statistics.fmean(map(math.log, known)))
                    row = Row(
                        group, "both" if backward else "forward", compression, fft_size, name, ratios, mean
                    )
                    rows.append(row)
                    print(row.line(), flush=True)
    write(arguments.out, rows, device, arguments)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    shapes: str
    passes: str
    compression: float
    fft_size: str
    peer: str
    ratios: list[float]
    mean: float

    def line(self) -> str:
        """The line in markdown."""
        cells = [self.shapes, self.passes, f"{self.compression:g}", self.fft_size, self.peer]
        cells += ["-" if r != r else f"{r:.2f}" for r in self.ratios] + [""] * (4 - len(self.ratios))
        return "| " + " | ".join([*cells, f"**{self.mean:.2f}**"]) + " |"


def write(folder: Path, rows: list[Row], device: torch.device, arguments: argparse.Namespace) -> None:
    """Write the figures and where they come from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    where = f"{name}{threads}, torch {torch.__version__}, {arguments.dtype}, batch {arguments.batch}"
    figures = {"where": where, "rows": [asdict(row) for row in rows]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "convolution.json").write_text(json.dumps(figures, indent=1) + "\n")
    stages = " | ".join(f"stage {i}" for i in range(1, 5))
    head = [
        f"Ratios to the better ordinary convolution: {where}", "",
        f"| shapes | passes | compression | size | peer | {stages} | mean |",
        "|" + "---|" * 10,
    ]  # fmt: skip
    (folder / "convolution.md").write_text("\n".join([*head, *(row.line() for row in rows)]) + "\n")


if __name__ == "__main__":
    main()
