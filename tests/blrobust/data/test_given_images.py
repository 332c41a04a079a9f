"""Images that are given in Python: what is taken, what it becomes, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from blrobust.data import datasets
from blrobust.data.given_images import from_arrays, from_dataset
from blrobust.errors import UserError

PIXELS = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 0, 2, 1])


class Pictures(Dataset[Any]):
    """Pillow's images with class names, as those of torchvision without a transform."""

    classes = ("cat", "dog", "owl")

    def __init__(self, mode: str, count: int = 6) -> None:
        self.arrays = (PIXELS * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()[:count]
        self.mode = mode
        self.read = 0

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read += 1
        return Image.fromarray(self.arrays[index]).convert(self.mode), int(LABELS[index])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_floats_become_float32(dtype: Any) -> None:
    given = PIXELS.numpy().astype(dtype)
    data = from_arrays(given, LABELS.numpy().astype(np.uint16))
    assert (data.images.dtype, data.labels.dtype) == (torch.float32, torch.int64)
    assert np.array_equal(data.images.numpy(), given.astype(np.float32))
    assert data.labels.tolist() == LABELS.tolist()
    assert data.classes == ("0", "1", "2")


def test_arrays_are_read_whatever_their_memory_is_like() -> None:
    given = PIXELS.permute(0, 2, 3, 1).contiguous().numpy().transpose(0, 3, 1, 2)[::-1]
    given.flags.writeable = False
    data = from_arrays(given, LABELS.flip(0)[:, None])
    assert torch.equal(data.images, PIXELS.flip(0))
    gradient = PIXELS.clone().requires_grad_()
    assert not from_arrays(gradient, LABELS).images.requires_grad


def test_classes_are_a_number_or_names() -> None:
    assert from_arrays(PIXELS, LABELS, classes=4).classes == ("0", "1", "2", "3")
    assert from_arrays(PIXELS, LABELS, classes=["a", "b", "c"]).classes == ("a", "b", "c")
    with pytest.raises(UserError, match="classes: got 2 for labels up to 2; legal: 3 or more"):
        from_arrays(PIXELS, LABELS, classes=["a", "b"])


def test_classes_without_an_order_are_refused() -> None:
    with pytest.raises(UserError, match=r"legal: 1 to .*, or a list of names"):
        from_arrays(PIXELS, LABELS, classes={"a", "b", "c"})


def test_the_checksum_is_that_of_pixels_and_labels() -> None:
    first, same = (datasets.given(from_arrays(x, LABELS)) for x in (PIXELS, PIXELS.double().numpy()))
    assert first.checksum == same.checksum
    others = [(PIXELS.clone().index_fill_(3, torch.tensor(2), 0.5), LABELS), (PIXELS, LABELS.flip(0))]
    for images, labels in others:
        assert datasets.given(from_arrays(images, labels)).checksum != first.checksum
    scaled = PIXELS.double()
    assert np.allclose(first.mean, scaled.mean((0, 2, 3)), atol=1e-7)
    assert np.allclose(first.std, scaled.std((0, 2, 3), correction=0), atol=1e-7)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_pictures_of_pillow_have_their_channels_first(mode: str, channels: int) -> None:
    data = from_dataset(Pictures(mode))
    assert (data.images.dtype, data.images.shape) == (torch.uint8, (6, channels, 4, 5))
    if mode == "RGB":
        assert torch.equal(data.images, (PIXELS * 255).to(torch.uint8))
    assert data.classes == Pictures.classes


def test_only_the_first_items_are_read() -> None:
    pictures = Pictures("RGB")
    data = from_dataset(Subset(pictures, [5, 4, 3, 2, 1, 0]), limit=2)
    assert pictures.read == 2
    assert data.labels.tolist() == [1, 2]
    assert data.classes == Pictures.classes  # those of the set of which it is a part


class Broken(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        if index == 1:
            raise OSError("no such disk\nreally")
        return super().__getitem__(index)


class Endless(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(PIXELS[0], 0)])


class Uneven(Pictures):
    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image, label = super().__getitem__(index)
        return (image.resize((5, 6)) if index else image), label


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Broken(PIXELS, LABELS), r"data: item 1 is not \(image, label\): OSError: no such disk really"),
        (Endless(), "data: got a Endless without a length; legal: one with"),
        (Uneven("RGB"), r"data: got image 1 of type uint8 and shape \(3, 6, 5\); legal: uint8 of shape"),
        (Pictures("RGB", 0), "data: got a data set without images; legal: at least one"),
        (TensorDataset(PIXELS), r"data: item 0 is not \(image, label\): "),
        (TensorDataset(PIXELS * 3, LABELS), "data: got values from .* legal: floats in"),
    ],
)
def test_another_set_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        from_dataset(given)
    assert "\n" not in str(caught.value)
