import io
import os
import pickle
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from blrobust.data import image_files
from blrobust.data.image_files import read_folder, read_npz
from blrobust.data.labelled_images import LabelledImages
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
        ({"y": np.array([{}] * 6)}, "Object arrays cannot be loaded"),
        ({"x": np.array([{}] * 6)}, "Object arrays cannot be loaded"),
        ({"classes": np.array([{}, "a", "b"])}, "Object arrays cannot be loaded"),
        ({"classes": np.array(["ant" * 10_000, "bee", "cow"])}, "names of 120,000 bytes; legal: at most"),
        ({"x": np.zeros(6, np.dtype([("a", "<f8"), ("b", "O")]))}, "Object arrays cannot be loaded"),
        ({"x": np.zeros((6, 5, 7), np.dtype([("a", "<f8")]))}, "legal: uint8, or float"),
        ({"x": np.zeros((6, 5, 7), np.complex64)}, "legal: uint8, or float"),
        ({"x": np.zeros((6, 5, 7), bool)}, "legal: uint8, or float"),
        ({"y": np.array(["0"] * 6)}, "got <U1"),
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


class Marker:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


X, Y = npy(COLOUR), npy(LABELS)
HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000,)}"


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("x.npy", b"no array"), ("y.npy", Y)], "cannot be read"),
        ([("x.npy", b""), ("y.npy", Y)], "cannot be read"),
        ([("x", b"no array"), ("y.npy", Y)], "cannot be read"),
        ([("x", b"no array"), ("x.npy", X), ("y.npy", Y)], "x is there more than once"),
        ([("x.npy", X), ("x", b"no array"), ("y.npy", Y)], "x is there more than once"),
        ([("x.npy", X), ("x.npy", X), ("y.npy", Y)], "x is there more than once"),
        ([("x.npy", X), ("y.npy", Y), ("y", npy(LABELS[:2]))], "y is there more than once"),
        ([("x.npy", X + b"more"), ("y.npy", Y)], "does not fit"),
        ([("x.npy", X[:-1]), ("y.npy", Y)], "does not fit"),
        (
            [("x.npy", header("{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000,)}"))],
            "does not fit",
        ),
        ([("x.npy", header("[" * 9000)), ("y.npy", Y)], "cannot be read"),
        ([("x.npy", header("{'descr': '|u1'}")), ("y.npy", Y)], "cannot be read"),
        ([("x.npy", header("(" * 60_000)), ("y.npy", Y)], "cannot be read"),
        ([("n" * 60_000, b"")] * 20, "legal: x and y"),
    ],
)
def test_members_that_are_no_arrays(tmp_path: Path, members: list[tuple[str, bytes]], told: str) -> None:
    path = tmp_path / "own.npz"
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    with pytest.raises(UserError, match=told) as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["x.npy", "x", "y.npy", "classes.npy", "other.npy"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_is_unpickled(tmp_path: Path, name: str, wrapped: bool) -> None:
    marker = Marker(tmp_path / "was unpickled")
    content = io.BytesIO()
    if wrapped:
        np.save(content, np.array([marker] * 6), allow_pickle=True)
    else:
        pickle.dump(marker, content)
    members = {"x.npy": X, "y.npy": Y, name: content.getvalue()}
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    read = outcome(read_npz, tmp_path / "own.npz")
    assert isinstance(read, LabelledImages) == (name == "other.npy")
    assert not marker.folder.exists()


@pytest.mark.parametrize("size", [0, 1, 200, 2**30])
def test_an_archive_whose_sizes_are_wrong(tmp_path: Path, size: int) -> None:
    """A member unpacks to 64 MB; the directory of the archive declares other sizes."""
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", X + bytes(2**26))
        archive.writestr("y.npy", Y)
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")  # the first entry of the directory
    for declared in (size, len(X)):
        content[start + 24 : start + 28] = declared.to_bytes(4, "little")
        path.write_bytes(content)
        tracemalloc.start()
        read = outcome(read_npz, path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert isinstance(read, UserError)
        assert "cannot be read" in str(read)
        assert peak < 2**22


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    save_folder(tmp_path, COLOUR)
    os.mkfifo(tmp_path / "bee" / "7.png")
    with pytest.raises(UserError, match=r"7.png, which is not a regular file; legal: files in"):
        read_folder(tmp_path)
    os.mkfifo(tmp_path / "own.npz")
    with pytest.raises(UserError, match=r"own.npz, which is not a regular file; legal: an .npz archive"):
        read_npz(tmp_path / "own.npz")
    with pytest.raises(UserError, match=r"which is a folder; legal: an \.npz archive"):
        read_npz(tmp_path)
    with pytest.raises(UserError, match="which is not a folder; legal: a folder of classes"):
        read_folder(tmp_path / "own.npz")


OTHER_FORMATS = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n{} loop\nshowpage\n%%EOF\n",
    "DOS PostScript": b"\xc5\xd0\xd3\xc6"
    + (30).to_bytes(4, "little")
    + bytes(22)
    + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "PDF": b"%PDF-1.4\n",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
}


@pytest.mark.parametrize("suffix", image_files.SUFFIXES)
@pytest.mark.parametrize("content", OTHER_FORMATS)
def test_no_format_that_runs_a_program_is_opened(
    content: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = pytest.fail
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: fail("Ghostscript was called"))
    save_folder(tmp_path, COLOUR)
    (tmp_path / "ant" / f"0{suffix}").write_bytes(OTHER_FORMATS[content])
    with pytest.raises(UserError, match="cannot be read as an image; legal: PNG, JPEG, WEBP"):
        read_folder(tmp_path)


@pytest.mark.parametrize("suffix", image_files.SUFFIXES)
def test_the_format_of_each_ending_is_read(suffix: str, tmp_path: Path) -> None:
    images = COLOUR[..., 0] if suffix == ".pgm" else COLOUR
    assert len(read_folder(save_folder(tmp_path, images, suffix)).images) == len(COLOUR)


@pytest.mark.parametrize("side", [9_500, 30_000])  # above Pillow's limit for a warning and for an error
def test_an_image_that_is_too_large_is_not_decoded(tmp_path: Path, side: int) -> None:
    save_folder(tmp_path, COLOUR)
    (tmp_path / "ant" / "0.ppm").write_bytes(f"P6 {side} {side} 255\n".encode())
    with pytest.raises(UserError, match=r"0.ppm cannot be read as an image: Image size .* exceeds limit"):
        read_folder(tmp_path)


def test_a_folder_of_too_many_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MOST_LABELS", 2)
    with pytest.raises(UserError, match="with 3 sub-folders; legal: at most 2"):
        read_folder(save_folder(tmp_path, COLOUR))


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


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n{} loop\n%%EOF\n"


def test_postscript_in_an_image_file_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: pytest.fail("executed"))
    save_folder(tmp_path, COLOUR)
    image = next(tmp_path.glob("*/*.png"))
    image.write_bytes(POSTSCRIPT)
    with pytest.raises(UserError, match=rf"{image.name} cannot be read as an image"):
        read_folder(tmp_path)
