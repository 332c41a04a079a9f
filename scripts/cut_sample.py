"""Cut the bundled sample: the first 1,000 test images of CIFAR-10 as one lossless WebP sheet.

Run:  python scripts/cut_sample.py DATA_DIR

DATA_DIR holds the folder `cifar-10-batches-py`, as torchvision stores it. The images are in the official
order, so the sample is the subset that published results on 1,000 images of CIFAR-10 use.
"""

import json
import sys
from pathlib import Path

from PIL import Image

from blrobust.data.datasets import NAMES, load
from blrobust.data.sources import SAMPLES

NAME = "cifar10-sample"
SIDE, DOWN, ACROSS = 32, 25, 40


def main(data_dir: Path) -> None:
    """Write the sheet, and a JSON file with its labels and source, into the package."""
    sample = load("cifar10", data_dir=data_dir).take(DOWN * ACROSS)
    cells = sample.images.reshape(DOWN, ACROSS, 3, SIDE, SIDE)
    sheet = cells.permute(0, 3, 1, 4, 2).reshape(DOWN * SIDE, ACROSS * SIDE, 3)
    Image.fromarray(sheet.numpy()).save(SAMPLES / f"{NAME}.webp", lossless=True, quality=100, method=6)
    card = {
        "source": "CIFAR-10 (python version), test_batch, images 0 to 999, in order",
        "url": "https://www.cs.toronto.edu/~kriz/cifar.html",
        "citation": NAMES["cifar10"].citation,
        "side": SIDE,
        "classes": sample.classes,
        "labels": sample.labels.tolist(),
    }
    (SAMPLES / f"{NAME}.json").write_text(json.dumps(card) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
