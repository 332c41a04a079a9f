"""Pictures for the documents: curves of the controls, and a screenshot of a report."""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from blrobust.reports.figures import COLOURS, FAINT, INK

RESULTS = Path(__file__).parents[1] / "docs" / "results"
FIRST_COMMAND = ("noise", "--dataset", "cifar10-sample")
WINDOW = (1040, 1250)  # pixels: the conclusions and the figure
COLOURS_KEPT = 128  # colours of a saved picture; this halves its file
# Curves of docs/controls.png; solid lines have a band limit.
SHOWN = {
    "fp32-noise": (COLOURS[3], "--"),
    "fp32-lowpass": (COLOURS[4], "--"),
    "lowpass-fft85+fp32": (COLOURS[2], "--"),
    "fp32-early": (COLOURS[5], "--"),
    "fp32": (COLOURS[0], "--"),
    "fft50": (COLOURS[6], "-"),
    "fft85": (COLOURS[1], "-"),
}


def controls(path: Path) -> None:
    """Draw the accuracy of the models in `SHOWN` under Gaussian noise, with 95 % intervals, to `path`."""
    frame = pd.read_csv(RESULTS / "controls-noise.csv")
    figure = Figure(figsize=(8.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for model, (colour, dashes) in SHOWN.items():
        rows = frame[frame.model == model]
        axes.plot(rows.level, 100 * rows.accuracy, color=colour, linestyle=dashes, linewidth=1.8, label=model)
        axes.fill_between(
            rows.level, 100 * rows.ci_low, 100 * rows.ci_high, color=colour, alpha=0.2, linewidth=0
        )
    axes.set(xlabel="σ of Gaussian noise, normalised units", ylabel="accuracy, %", xlim=(0, 2), ylim=(0, 100))
    axes.grid(color="#e6e6e6")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    with io.BytesIO() as drawn:
        figure.savefig(drawn, dpi=110)
        _save(Image.open(drawn, formats=["PNG"]), path)


def report(path: Path) -> None:
    """Run the README's first command and save a screenshot of its report to `path`.

    Raises `FileNotFoundError` if there is no Chromium.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise FileNotFoundError("no chromium, chromium-browser or google-chrome in PATH")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run([sys.executable, "-m", "blrobust", *FIRST_COMMAND, "--out", str(run)], check=True)
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}/profile")
        size = f"--window-size={WINDOW[0]},{WINDOW[1]}"
        target = [f"--screenshot={folder}/report.png", (run / "report.html").as_uri()]
        subprocess.run([browser, *options, size, *target], check=True)
        _save(Image.open(f"{folder}/report.png", formats=["PNG"]), path)


def _save(picture: Image.Image, path: Path) -> None:
    picture.convert("RGB").quantize(COLOURS_KEPT).save(path, optimize=True)
