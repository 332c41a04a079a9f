import functools
import gzip
import hashlib
import http.server
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torchvision import datasets as torchvision_datasets

from blrobust.data.datasets import NAMES, Dataset, load, load_default
from blrobust.data.registry import data_folder
from blrobust.data.sources import fetch
from blrobust.errors import UserError

RANDOM = np.random.default_rng(1)
FULL = Path(os.environ.get("BLROBUST_DATA") or "missing")
full_data = [
    pytest.mark.full_data,
    pytest.mark.skipif(
        not (FULL / "cifar-10-batches-py" / "test_batch").is_file(),
        reason="BLROBUST_DATA names no folder with cifar-10-batches-py",
    ),
]


@pytest.fixture(autouse=True)
def no_data_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLROBUST_DATA", raising=False)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


# Small files in the official layouts, with torchvision told to expect their checksums.


def shrink(monkeypatch: pytest.MonkeyPatch, name: str, *, train: int = 4) -> None:
    """Make 4 the registered number of test images, and `train` that of training images."""
    monkeypatch.setitem(NAMES, name, replace(NAMES[name], sizes={"train": train, "test": 4}))


def make_cifar(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[torchvision_datasets.CIFAR10],
    key: str,
    classes: list[str],
) -> np.ndarray:
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    images = RANDOM.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    names = [name for name, _ in kind.test_list + kind.train_list]
    for name in names:
        batch = {"data": images.reshape(4, -1), key: [3, 1, 0, 2]}
        (folder / name).write_bytes(pickle.dumps(batch))
    meta = {**kind.meta, "md5": ""}
    (folder / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: classes}))
    meta["md5"] = md5(folder / meta["filename"])
    monkeypatch.setattr(kind, "meta", meta)
    for part in ("test_list", "train_list"):
        sums = [[name, md5(folder / name)] for name, _ in getattr(kind, part)]
        monkeypatch.setattr(kind, part, sums)
    return images


def make_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    shrink(monkeypatch, "cifar10", train=20)
    meta = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    return make_cifar(root, monkeypatch, torchvision_datasets.CIFAR10, "labels", meta)


def make_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    shrink(monkeypatch, "cifar100")
    meta = [str(i) for i in range(100)]
    return make_cifar(root, monkeypatch, torchvision_datasets.CIFAR100, "fine_labels", meta)


def make_fashion(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    shrink(monkeypatch, "fashion-mnist")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = RANDOM.integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, *images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = struct.pack(">II", 0x801, 4) + bytes([3, 1, 0, 2])
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return images[:, None]


def make_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    shrink(monkeypatch, "svhn")
    images = RANDOM.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    sums = dict(torchvision_datasets.SVHN.split_list)
    for split in ("train", "test"):
        file = root / f"{split}_32x32.mat"
        root.mkdir(exist_ok=True)
        scipy.io.savemat(file, {"X": images, "y": np.array([[3], [1], [10], [2]])})
        sums[split] = [sums[split][0], file.name, md5(file)]
    monkeypatch.setattr(torchvision_datasets.SVHN, "split_list", sums)
    return images.transpose(3, 2, 0, 1)


LAYOUTS: dict[str, Callable[[Path, pytest.MonkeyPatch], np.ndarray]] = {
    "cifar10": make_cifar10,
    "cifar100": make_cifar100,
    "fashion-mnist": make_fashion,
    "svhn": make_svhn,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_registered_set_in_its_official_layout(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = LAYOUTS[name](tmp_path, monkeypatch)
    for split in ("test", "train"):
        dataset = load(name, split=split, data_dir=tmp_path)
        parts = 5 if (name, split) == ("cifar10", "train") else 1
        np.testing.assert_array_equal(dataset.images.numpy(), np.concatenate([images] * parts))
        assert dataset.images.is_contiguous()
        assert dataset.labels.tolist() == [3, 1, 0, 2] * parts
        assert dataset.labels.dtype == torch.int64
        assert len(dataset) == 4 * parts
        assert len(dataset.mean) == len(dataset.std) == dataset.images.shape[1]
        assert all(isinstance(label, str) for label in dataset.classes)


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_set_says_where_it_looked_and_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file") as caught:
        load(name, data_dir=tmp_path / "my data")
    message = str(caught.value)
    assert str(tmp_path / "my data" / NAMES[name].files["test"]) in message
    assert f"blrobust data get {name} --data-dir '{tmp_path}/my data'" in message


@pytest.mark.parametrize("name", LAYOUTS)
def test_damaged_set_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYOUTS[name](tmp_path, monkeypatch)
    file = tmp_path / NAMES[name].files["test"]
    for size in (100, 2, 0):
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(UserError, match="incomplete or damaged") as caught:
            load(name, data_dir=tmp_path)
        assert "\n" not in str(caught.value)


def idx(kind: int, shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">I{len(shape)}I", kind, *shape) + content


IMAGES, LABELS = 0x803, 0x801  # of unsigned bytes, with 3 axes and with 1


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("labels-idx1", idx(LABELS, (4,), bytes([3, 1, 200, 2])), "got label 200 for image 2; legal: 0 to 9"),
        ("labels-idx1", idx(LABELS, (4,), bytes([3, 1, 2, 10])), "got label 10 for image 3; legal: 0 to 9"),
        (
            "labels-idx1",
            idx(LABELS, (3,), bytes(3)),
            "got labels of type int64 and shape (3,); legal",
        ),
        ("labels-idx1", idx(LABELS, (5,), bytes(5)), "and shape (5,); legal: int64 of shape (4,), one per"),
        ("labels-idx1", idx(0x802, (2, 2), bytes(4)), "damaged"),
        ("labels-idx1", idx(0xB01, (4,), bytes(8)), "damaged"),
        ("labels-idx1", idx(0xD01, (4,), bytes(16)), "damaged"),
        ("labels-idx1", idx(LABELS, (2**32 - 1,), bytes(4)), "damaged"),
        (
            "images-idx3",
            idx(IMAGES, (4, 27, 28), bytes(4 * 27 * 28)),
            "legal: uint8 or float32 of shape (4, 1, 28",
        ),
        (
            "images-idx3",
            idx(IMAGES, (5, 28, 28), bytes(5 * 784)),
            "shape (5, 1, 28, 28); legal",
        ),
        ("images-idx3", idx(IMAGES, (0, 28, 28), b""), ""),
        ("images-idx3", idx(IMAGES, (4, 0, 28), b""), ""),
        ("images-idx3", idx(IMAGES, (4, 28, 2**31), bytes(100)), "damaged"),
        ("images-idx3", idx(IMAGES, (2**31, 2**31, 4), bytes(100)), "damaged"),
        ("images-idx3", idx(0xD03, (4, 28, 28), bytes(4 * 784 * 4)), "damaged"),
        ("images-idx3", idx(0x803, (), bytes(2)), "damaged"),
        ("images-idx3", idx(0x8FF, (), bytes(2)), "damaged"),
        ("images-idx3", b"\xff" * 100, "damaged"),
    ],
)
def test_files_of_other_contents_are_one_line(
    file: str, content: bytes, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fashion(tmp_path, monkeypatch)
    for split, part in (("test", "t10k"), ("train", "train")):
        path = tmp_path / "FashionMNIST" / "raw" / f"{part}-{file}-ubyte"
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            load("fashion-mnist", split=split, data_dir=tmp_path)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 1000
        assert told in message
        assert str(path) in message or "is incomplete or damaged" in message


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_of_another_size_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LAYOUTS[name](tmp_path, monkeypatch)
    monkeypatch.setitem(NAMES, name, replace(NAMES[name], sizes={"train": 77, "test": 55}))
    for split, size in (("train", 77), ("test", 55)):
        with pytest.raises(UserError, match=rf"{name}, .*legal: uint8 or float32 of shape \({size}, "):
            load(name, split=split, data_dir=tmp_path)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_fetch_downloads_checks_and_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]
) -> None:
    images = make_fashion(tmp_path / "mirror", monkeypatch)
    mirror = tmp_path / "mirror" / "FashionMNIST" / "raw"
    resources = []
    for file in sorted(mirror.iterdir()):
        packed = file.with_suffix(".gz")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
        resources.append((packed.name, md5(packed)))
    kind = torchvision_datasets.FashionMNIST
    monkeypatch.setattr(kind, "mirrors", [serve(mirror)])
    monkeypatch.setattr(kind, "resources", resources)
    target = tmp_path / "new" / "folder"
    assert fetch("fashion-mnist", data_dir=target) == target
    np.testing.assert_array_equal(load("fashion-mnist", data_dir=target).images.numpy(), images)
    for packed in mirror.iterdir():
        packed.unlink()
    fetch("fashion-mnist", data_dir=target)  # already there: needs no mirror
    (target / NAMES["fashion-mnist"].files["test"]).write_bytes(b"")
    with pytest.raises(UserError, match=r"delete .*FashionMNIST and try again"):
        fetch("fashion-mnist", data_dir=target)


def test_sample() -> None:
    sample = load("cifar10-sample")
    assert sample.images.shape == (1000, 3, 32, 32)
    assert sample.images.dtype == torch.uint8
    # The official test order starts with cat, ship, ship, airplane, frog, frog.
    assert [sample.classes[label] for label in sample.labels[:6]] == [
        "cat", "ship", "ship", "airplane", "frog", "frog"
    ]  # fmt: skip
    pinned = "f167149948fc8fe0b9a76ba86421e987817f98b63761ba9415c5d42664d51f03"
    assert hashlib.sha256(sample.images.numpy().tobytes()).hexdigest() == pinned
    assert sample.note == "cifar10-sample: the first 1,000 test images of cifar10"
    with pytest.raises(UserError, match="got 'train'"):
        load("cifar10-sample", split="train")


def test_sample_needs_no_torchvision() -> None:
    code = (
        "import sys; from blrobust.data.datasets import load; load('cifar10-sample');"
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_falls_back_to_the_sample_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = load_default(data_dir=tmp_path)
    assert fallback.name == "cifar10-sample"
    assert fallback.note is not None
    assert str(tmp_path) in fallback.note
    assert f"blrobust data get cifar10 --data-dir {tmp_path}" in fallback.note
    make_cifar10(tmp_path, monkeypatch)
    found = load_default(data_dir=tmp_path)
    assert (found.name, found.note) == ("cifar10", None)


def test_data_folder_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_folder().name == "blrobust"
    monkeypatch.setenv("BLROBUST_DATA", str(tmp_path / "environment"))
    assert data_folder() == tmp_path / "environment"
    assert data_folder(tmp_path / "option") == tmp_path / "option"
    monkeypatch.setenv("BLROBUST_DATA", "")
    assert data_folder().name == "blrobust"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar", "got 'cifar'; legal: cifar10, cifar10-sample"),
        ("", "got ''; legal"),
        ("folder", "got 'folder'; .*folder:PATH"),
        ("zip:x", "got 'zip:x'"),
        ("folder:", "legal: folder:PATH"),
        ("npz:", "legal: npz:PATH"),
        ("npz:~nobody-of-that-name/x.npz", "does not exist"),
        ("folder:missing", "got missing, which does not exist"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(name)


def own(tmp_path: Path, x: np.ndarray) -> Dataset:
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(len(x)) % 2)
    return load(f"npz:{tmp_path / 'own.npz'}")


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_own_set_has_its_own_statistics(tmp_path: Path, kind: str) -> None:
    x = RANDOM.integers(0, 256, (300, 4, 5, 3), dtype=np.uint8)
    x[..., 1] //= 3
    unit = x / 255
    dataset = own(tmp_path, x if kind == "bytes" else unit)
    assert dataset.split == "test"
    np.testing.assert_allclose(dataset.mean, unit.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(dataset.std, unit.std((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(dataset.pixels(slice(None)).permute(0, 2, 3, 1).numpy(), unit, atol=1e-7)
    with pytest.raises(UserError, match="got 'train'"):
        load(dataset.name, split="train")


def test_constant_channel_cannot_be_normalised(tmp_path: Path) -> None:
    x = RANDOM.random((8, 4, 5, 3))
    x[..., 2] = 0.3
    with pytest.raises(UserError, match="same value in every pixel"):
        own(tmp_path, x)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pixels_choose_rows_and_are_a_copy(tmp_path: Path, dtype: type) -> None:
    x = RANDOM.integers(0, 2, (10, 4, 5)).astype(dtype)
    dataset = own(tmp_path, x)
    before = dataset.images.clone()
    for rows in (slice(2, 5), [2, 3, 4], torch.tensor([2, 3, 4])):
        pixels = dataset.pixels(rows)
        assert pixels.dtype == torch.float32
        unit = x[2:5, None] / (255 if dtype is np.uint8 else 1)
        np.testing.assert_array_equal(pixels.numpy(), unit.astype(np.float32))
        pixels.zero_()
    assert torch.equal(dataset.images, before)


def test_take_and_checksum(tmp_path: Path) -> None:
    x = RANDOM.integers(0, 256, (10, 4, 6), dtype=np.uint8)
    dataset = own(tmp_path, x)
    few = dataset.take(4)
    assert len(few) == 4
    assert (few.mean, few.std) == (dataset.mean, dataset.std)
    assert dataset.take(99).checksum == dataset.checksum == own(tmp_path, x).checksum
    reshaped = own(tmp_path, x.reshape(10, 6, 4))
    x[9, 0, 0] ^= 1
    assert len({few.checksum, dataset.checksum, reshaped.checksum, own(tmp_path, x).checksum}) == 4
    with pytest.raises(UserError, match="limit: got 0; legal: 1 or more"):
        dataset.take(0)


class TestFullData:
    pytestmark = full_data

    def test_sample_is_the_start_of_the_official_test_images(self) -> None:
        official = torchvision_datasets.CIFAR10(FULL, train=False)
        sample = load("cifar10-sample")
        np.testing.assert_array_equal(sample.images.permute(0, 2, 3, 1).numpy(), official.data[:1000])
        assert sample.labels.tolist() == official.targets[:1000]
        assert list(sample.classes) == official.classes
        assert load("cifar10", data_dir=FULL).take(1000).checksum == sample.checksum

    @pytest.mark.parametrize("name", [name for name in NAMES if NAMES[name].files])
    def test_table_tells_the_truth(self, name: str) -> None:
        source = NAMES[name]
        if not source.found(FULL):
            pytest.skip(f"BLROBUST_DATA has no {name}")
        assert len(load(name, data_dir=FULL)) == source.sizes["test"]
        train = load(name, split="train", data_dir=FULL)
        assert len(train) == source.sizes["train"]
        assert len(train.classes) == source.classes
        unit = train.images.permute(1, 0, 2, 3).flatten(1).numpy() / np.float32(255)
        np.testing.assert_allclose(train.mean, unit.mean(1, dtype=np.float64), atol=2e-4)
        if name != "cifar10":  # the paper's values are another kind of deviation, kept on purpose
            np.testing.assert_allclose(train.std, unit.std(1, dtype=np.float64), atol=2e-4)
