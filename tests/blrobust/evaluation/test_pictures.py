import io

import numpy as np
import pytest
import torch
from PIL import Image
from support import invented, stand_in

from blrobust.evaluation import pictures
from blrobust.perturbations.noise import Noise
from blrobust.runs.run import Run

CPU = torch.device("cpu")
LEVELS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def open_png(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(1, [0]), (2, [0, 1]), (6, [0, 1, 2, 3, 4, 5]), (21, [0, 4, 8, 12, 16, 20])],
)
def test_levels_are_spread_over_the_grid(count, wanted):
    assert pictures.spread([float(i) for i in range(count)]) == wanted


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_is_lossless_at_8_bits(channels):
    values = torch.arange(channels * 20, dtype=torch.uint8).view(channels, 4, 5) * 3
    array = open_png(pictures.png(values.float() / 255))
    wanted = values.permute(1, 2, 0).numpy()
    if channels != 3:
        wanted = np.repeat(wanted.mean(2, keepdims=True), 3, 2)
    assert np.abs(array - wanted.astype(float)).max() <= 0.5
    if channels in (1, 3):
        assert np.array_equal(array, wanted)


@pytest.mark.parametrize(
    ("right", "sample"),
    [(([0, 1, 1, 1], [1, 0, 1, 1]), 2), (([0, 1, 0, 1], [1, 0, 1, 0]), 0)],
)
def test_the_strip_shows_the_first_image_that_all_get_right(tmp_path, right, sample):
    data = stand_in.dataset(4, channels=3)
    labels = data.labels.numpy().astype(np.int16)
    config = invented.configuration("ab", n=4, kinds={"gaussian": {"levels": LEVELS}})
    record = invented.record(config, classes=list(data.classes))
    noise = Noise("gaussian", space="pixel", dataset=data, seed=0, device=CPU)
    with Run.create_or_resume(tmp_path, record, labels) as run:
        for label, hits in zip("ab", right, strict=True):
            prediction = np.where(np.array(hits) == 1, labels, -1).astype(np.int16)
            cell = (label, "gaussian", 0.0, 0)
            run.add(cell, {"prediction": prediction}, forwards=4, backwards=0, seconds=1)
        strip = pictures.take(run, noise, data, CPU)
    assert [picture.level for picture in strip] == [0.0, 0.1, 0.3, 0.4, 0.6, 0.7]
    assert {(p.kind, p.sample, p.label) for p in strip} == {("gaussian", sample, int(data.labels[sample]))}
    clean = open_png(strip[0].png)
    assert np.array_equal(clean, data.images[sample].permute(1, 2, 0).numpy())
    source = np.random.Philox(np.random.SeedSequence([0, 0, 0, sample]))
    z = np.random.Generator(source).standard_normal((3, 6, 6), np.float32)
    noisy = np.clip(data.images[sample].numpy() / 255 + 0.7 * z, 0, 1).transpose(1, 2, 0)
    assert np.abs(open_png(strip[-1].png) - noisy * 255).max() <= 0.51
