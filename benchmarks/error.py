"""The error of band-limited convolutions against ordinary ones, by compression (paper 6.2.10).

    python benchmarks/error.py [--images 200] [--fft-size compact|paper] [--out FOLDER]

Every 3x3 convolution of the bundled fp32 ResNet-20 gets its activations for the bundled CIFAR-10 images. Its
output y from some coefficients of the input is compared with its output y_whole from all of them. The error
is |y - y_whole| / |y_whole|, with Euclidean norms over images, channels and pixels. The coefficients are
selected by a cut:

    coarse   rows and columns: the (2k - 1)^2 coefficients at the frequencies (u, v) with |u|, |v| < k
    fine     single coefficients: the same number, those of the largest energy

The selection is the same for all images and channels of a layer. Coefficients of both signs are counted, so
that every pair of conjugates counts twice. Layers of the same map size are averaged. Writes
error-FFT_SIZE.json, .md and .png.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from blconv import band_limit
from blconv.band import FftSize
from blconv.convert import band_limited_layers
from blconv.energy import coefficient_power
from blconv.functional import convolve
from blconv.layers import BandLimited
from blconv.methods import mask
from blrobust.data import datasets
from blrobust.models import zoo

STEPS = 16  # number of values of k measured in each layer, about
CUTS = {"coarse": ("#0072b2", "o"), "fine": ("#d55e00", "s")}  # colour and marker


@dataclass(frozen=True)
class Point:
    """The error of one layer for one cut and one k, the number of kept frequencies of each axis."""

    layer: str
    maps: str
    cut: str
    k: int
    dropped: float  # share of the coefficients that is dropped, 0 to 1
    energy: float  # share of the input's energy that is kept, 0 to 1
    error: float  # relative error of the output


def main() -> None:
    """Parse the command line, measure, write the three files and print the table."""
    arguments = _arguments()
    points = measure(arguments.images, arguments.fft_size)
    about = (
        f"ResNet-20 (fp32), {arguments.images} CIFAR-10 test images, "
        f"fft_size={arguments.fft_size!r}, torch {torch.__version__}"
    )
    text = table(points, about)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"error-{arguments.fft_size}.json"
    rows = ",\n".join(json.dumps(asdict(point)) for point in points)
    path.write_text(f'{{"about": {json.dumps(about)},\n"points": [\n{rows}\n]}}\n')
    path.with_suffix(".md").write_text(text)
    draw(points, about).savefig(path.with_suffix(".png"), dpi=150)
    print(text, end="")


@torch.inference_mode()
def measure(images: int, fft_size: FftSize) -> list[Point]:
    """Return the points of all layers, on their activations for the first `images` images."""
    data = datasets.load("cifar10-sample")
    model = zoo.load("fp32", dataset=data, device=torch.device("cpu")).module
    band_limit(model, 0.0, fft_size=fft_size)  # still the ordinary convolutions, with a size of transform
    points: list[Point] = []

    def note(name: str, layer: BandLimited, inputs: tuple[Tensor], whole: Tensor) -> None:
        points.extend(points_of(name, layer, inputs[0], whole))

    for name, layer in band_limited_layers(model).items():
        layer.register_forward_hook(partial(note, name))
    model(data.pixels(slice(0, images)))
    return points


def points_of(name: str, layer: BandLimited, x: Tensor, y_whole: Tensor) -> Iterator[Point]:
    """Yield the points of one layer on its input x (batch, C, N, N), whose ordinary output is `y_whole`."""
    maps = f"{x.shape[1]} channels at {x.shape[2]} x {x.shape[3]}"
    whole = layer.geometry(*x.shape[2:])
    size, half = whole.band.axes[0].size, whole.band.axes[0].half
    power = coefficient_power(x, whole)
    signs = torch.ones_like(power)  # coefficients that each of the one-sided spectrum stands for
    signs[:, 1 : (size + 1) // 2] = 2
    energies, order = power.flatten().sort(descending=True)
    numbers = signs.flatten()[order].cumsum(0)
    for k in range(half - 1, 0, -max(1, half // STEPS)):
        corner = layer.geometry(*x.shape[2:], kept=(k, k))
        coarse = torch.zeros_like(power, dtype=torch.bool)
        coarse[:k, :k] = coarse[size - k + 1 :, :k] = True
        fine = power >= energies[(numbers < (2 * k - 1) ** 2).sum()]  # or one more: conjugates stay together
        outputs = {
            "coarse": convolve(x, layer.weight, layer.bias, corner),
            "fine": mask.convolve(x, layer.weight, layer.bias, fine, whole),
        }
        for cut, kept in (("coarse", coarse), ("fine", fine)):
            dropped = 1 - float((signs * kept).sum()) / size**2
            energy = float((signs * power * kept).sum() / (signs * power).sum())
            error = float((outputs[cut] - y_whole).norm() / y_whole.norm())
            yield Point(name, maps, cut, k, dropped, energy, error)


def mean(points: list[Point]) -> Point:
    """Return one point with the mean shares and error of points of several layers with the same k and cut."""
    shares = {
        share: sum(getattr(point, share) for point in points) / len(points)
        for share in ("dropped", "energy", "error")
    }
    return Point(f"{len(points)} layers", points[0].maps, points[0].cut, points[0].k, **shares)


def groups(points: list[Point]) -> dict[str, dict[str, list[list[Point]]]]:
    """Return the points by map size and by cut: a list for each k, the largest k first."""
    found: dict[str, dict[str, dict[int, list[Point]]]] = {}
    for point in points:
        found.setdefault(point.maps, {}).setdefault(point.cut, {}).setdefault(point.k, []).append(point)
    return {m: {c: list(by_k.values()) for c, by_k in cuts.items()} for m, cuts in found.items()}


def table(points: list[Point], about: str) -> str:
    """Return the Markdown table: a row for each map size and k, with both cuts side by side."""
    lines = [
        f"Relative error of the convolution's output, mean of the layers. {about}.",
        "",
        "| input | layers | k | dropped | energy lost, coarse | fine | error, coarse | fine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for maps, cuts in groups(points).items():
        for layers, others in zip(cuts["coarse"], cuts["fine"], strict=True):
            coarse, fine = mean(layers), mean(others)
            lines.append(
                f"| {maps} | {len(layers)} | {coarse.k} | {coarse.dropped:.1%} "
                f"| {1 - coarse.energy:.2%} | {1 - fine.energy:.2%} | {coarse.error:.1%} | {fine.error:.1%} |"
            )
    return "\n".join(lines) + "\n"


def draw(points: list[Point], about: str) -> Figure:
    """Return a figure with a panel per map size: mean error by compression, and the range over layers."""
    panels = groups(points)
    figure = Figure(figsize=(3.1 * len(panels), 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (maps, cuts) in zip(axes, panels.items(), strict=True):
        for cut, layers in cuts.items():
            colour, marker = CUTS[cut]
            dropped = [100 * mean(same).dropped for same in layers]
            errors = [[100 * point.error for point in same] for same in layers]
            panel.plot(
                dropped, [sum(e) / len(e) for e in errors], marker, ls="-", ms=3.5, c=colour, label=cut
            )
            panel.fill_between(
                dropped, list(map(min, errors)), list(map(max, errors)), color=colour, alpha=0.15, lw=0
            )
        count = len(next(iter(cuts.values()))[0])
        panel.set_title(f"{maps}\n{count} layer{'s' * (count > 1)}", fontsize=10)
        panel.set_xlabel("coefficients dropped, %")
        panel.set_xlim(-2, 102)
        panel.grid(color="#e6e6e6")
        panel.set_axisbelow(True)
    axes[0].set_ylim(0, 100)
    axes[0].set_ylabel("relative error of the output, %")
    axes[0].legend(title="cut", frameon=False)
    figure.suptitle(
        f"{about}; shaded: from the least to the largest of the layers", fontsize=9, color="#555555"
    )
    return figure


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200, help="how many of the 1,000 images (%(default)s)")
    parser.add_argument(
        "--fft-size",
        choices=("compact", "paper"),
        default="compact",
        help="points of the transform (%(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder to write to (%(default)s)"
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.images <= 1000:
        parser.error(f"argument --images: must be from 1 to 1000, got {arguments.images}")
    return arguments


if __name__ == "__main__":
    main()
