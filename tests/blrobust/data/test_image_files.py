import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blrobust.data.image_files import LabelledImages, read_folder, read_npz
from blrobust.errors import UserError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)  # n, H, W, C
LABELS = np.array([0, 1, 2, 0, 1, 2])


def save_folder(root: Path, images: np.ndarray, suffix: str = ".png") -> Path:
    for index, (image, label) in enumerate(zip(images, LABELS, strict=True)):
        folder = root / ("ant", "bee", "cow")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}{suffix}")
    return root


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"x": COLOUR, "y": LABELS, **arrays})
    return path


def test_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    save_folder(tmp_path, COLOUR)
    (tmp_path / "README.txt").write_text("not a class")
    (tmp_path / ".git").mkdir()
    (tmp_path / "bee" / "Thumbs.db").write_bytes(b"not an image")
    (tmp_path / "bee" / "._4.png").write_bytes(b"not an image either")
    images, labels, classes = read_folder(tmp_path)
    order = [0, 3, 1, 4, 2, 5]
    assert classes == ("ant", "bee", "cow")
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert labels.dtype == torch.int64
    assert images.dtype == torch.uint8
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), COLOUR[order])


def test_gray_folder_keeps_one_channel(tmp_path: Path) -> None:
    save_folder(tmp_path, COLOUR[..., 0])
    assert read_folder(tmp_path).images.shape == (6, 1, 5, 7)


def test_one_colour_image_makes_the_folder_rgb(tmp_path: Path) -> None:
    save_folder(tmp_path, COLOUR[..., 0])
    Image.fromarray(COLOUR[1]).save(tmp_path / "bee" / "1.png")
    images = read_folder(tmp_path).images
    assert images.shape == (6, 3, 5, 7)
    assert torch.equal(images[0, 0], images[0, 2])


def break_nothing_there(root: Path) -> str:
    root.rmdir()
    return "which does not exist"


def break_no_classes(root: Path) -> str:
    return "without sub-folders"


def break_empty_class(root: Path) -> str:
    save_folder(root, COLOUR)
    (root / "dog").mkdir()
    return "dog without images"


def break_size(root: Path) -> str:
    save_folder(root, COLOUR)
    Image.fromarray(COLOUR[0, :, :4]).save(root / "cow" / "9.png")
    return r"9\.png: got 4x5 pixels; legal: 7x5, the size of .*0\.png"


def break_depth(root: Path) -> str:
    save_folder(root, COLOUR)
    Image.fromarray(COLOUR[0, :, :, 0].astype(np.uint16)).save(root / "cow" / "9.png")
    return r"9\.png: got more than 8 bits"


def break_text_as_image(root: Path) -> str:
    save_folder(root, COLOUR)
    (root / "cow" / "9.png").write_text("hello")
    return r"9\.png cannot be read"


def break_cut_short(root: Path) -> str:
    save_folder(root, COLOUR)
    file = root / "cow" / "5.png"
    file.write_bytes(file.read_bytes()[:-40])
    return r"5\.png cannot be read"


@pytest.mark.parametrize(
    "damage",
    [
        break_nothing_there,
        break_no_classes,
        break_empty_class,
        break_size,
        break_depth,
        break_text_as_image,
        break_cut_short,
    ],
)
def test_unusable_folder_is_one_clear_line(tmp_path: Path, damage: Any) -> None:
    root = tmp_path / "own"
    root.mkdir()
    message = damage(root)
    with pytest.raises(UserError, match=message) as caught:
        read_folder(root)
    assert "\n" not in str(caught.value)


def outcome(read: Callable[[Path], LabelledImages], path: Path) -> LabelledImages | UserError:
    try:
        return read(path)
    except UserError as error:
        return error


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".gif", ".tif"])
def test_damaged_image_never_raises_anything_else(tmp_path: Path, suffix: str) -> None:
    save_folder(tmp_path, COLOUR, suffix)
    file = tmp_path / "ant" / f"0{suffix}"
    sound = file.read_bytes()
    for _ in range(60):
        damaged = bytearray(sound[: RANDOM.integers(1, len(sound) + 1)])
        damaged[RANDOM.integers(len(damaged))] ^= 1 << RANDOM.integers(8)
        file.write_bytes(damaged)
        read = outcome(read_folder, tmp_path)
        assert isinstance(read, LabelledImages) or "\n" not in str(read)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (COLOUR, (6, 3, 5, 7)),
        (COLOUR.transpose(0, 3, 1, 2), (6, 3, 5, 7)),
        (COLOUR[..., :1], (6, 1, 5, 7)),
        (COLOUR[..., 0], (6, 1, 5, 7)),
    ],
    ids=["NHWC", "NCHW", "NHW1", "NHW"],
)
def test_npz_layouts(tmp_path: Path, x: np.ndarray, shape: tuple[int, ...]) -> None:
    images, labels, classes = read_npz(save_npz(tmp_path / "own.npz", x=x))
    assert images.shape == shape
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    np.testing.assert_array_equal(images[:, 0].numpy(), COLOUR[..., 0])
    assert labels.tolist() == LABELS.tolist()
    assert classes == ("0", "1", "2")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_npz_floats_become_float32(tmp_path: Path, dtype: str) -> None:
    x = (COLOUR / 255).astype(dtype)
    images = read_npz(save_npz(tmp_path / "own.npz", x=x)).images
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), x.astype(np.float32))


def test_npz_column_labels_and_names(tmp_path: Path) -> None:
    names = np.array(["ant", "bee", "cow", "dog"])
    y = LABELS[:, None].astype(">u2")
    read = read_npz(save_npz(tmp_path / "own.npz", y=y, classes=names))
    assert read.labels.tolist() == LABELS.tolist()
    assert read.classes == ("ant", "bee", "cow", "dog")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": COLOUR.astype(np.int64)}, "x in .*: got int64"),
        ({"x": COLOUR.astype(np.float32)}, "divided|legal: floats in"),
        ({"x": np.full((6, 5, 7, 3), np.nan)}, "nan"),
        ({"x": -(COLOUR / 255)}, "legal: floats in"),
        ({"x": COLOUR[0]}, "y in .* 5 integers"),
        ({"x": COLOUR[0, 0]}, r"got shape \(7, 3\); legal: \(n, H, W\)"),
        ({"x": np.zeros((6, 3, 5, 3), np.uint8)}, "which could be two of them"),
        ({"x": np.zeros((6, 5, 7, 4), np.uint8)}, r"got shape \(6, 5, 7, 4\); legal"),
        ({"x": np.zeros((0, 5, 7, 3), np.uint8)}, "no pixels"),
        ({"y": LABELS[:5]}, "6 integers"),
        ({"y": LABELS.astype(float)}, "y in .*: got float64"),
        ({"y": LABELS - 1}, "from -1"),
        ({"y": LABELS + 2**40}, "legal: 0 to 32767"),
        ({"y": np.eye(6, dtype=np.int64)}, r"shape \(6, 6\)"),
        ({"classes": np.array(["ant", "bee"])}, "at least 3"),
        ({"classes": np.array([1, 2, 3])}, "texts"),
        ({"y": np.array([{}] * 6)}, "cannot be read"),
    ],
)
def test_unusable_npz_is_one_clear_line(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_npz(save_npz(tmp_path / "own.npz", **arrays))
    assert "\n" not in str(caught.value)


def test_npz_without_labels_or_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with pytest.raises(UserError, match="does not exist"):
        read_npz(path)
    np.savez(path, images=COLOUR)
    with pytest.raises(UserError, match="with images; legal: x and y"):
        read_npz(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(UserError, match="with no arrays"):
        read_npz(path)
    for content in (b"", b"hello", b"\x80\x04}."):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged or of another format"):
            read_npz(path)
    np.save(path.with_suffix(".npy"), COLOUR)
    with pytest.raises(UserError, match="damaged or of another format"):
        read_npz(path.with_suffix(".npy"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_never_raises_anything_else(tmp_path: Path, save: Any) -> None:
    whole = io.BytesIO()
    save(whole, x=COLOUR, y=LABELS)
    sound = whole.getvalue()
    path = tmp_path / "own.npz"
    path.write_bytes(sound)
    expected = read_npz(path)
    for _ in range(300):
        damaged = bytearray(sound)
        damaged[RANDOM.integers(len(damaged))] ^= 1 << RANDOM.integers(8)
        path.write_bytes(damaged[: RANDOM.integers(len(damaged) // 2, 2 * len(damaged))])
        read = outcome(read_npz, path)
        if isinstance(read, UserError):
            assert "\n" not in str(read)
        else:  # the archive's own checksums let no changed number through
            assert torch.equal(read.images, expected.images)
            assert torch.equal(read.labels, expected.labels)
