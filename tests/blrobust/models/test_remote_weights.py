import hashlib
import os
import shutil
import socket
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import platformdirs
import pytest
import torch

from blrobust.cli import main
from blrobust.data import datasets
from blrobust.errors import UserError
from blrobust.models import remote_weights, zoo

CPU = torch.device("cpu")
STEM = "cifar10-resnet20-fft33"


class Handler(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/elsewhere/"):
            self.send_response(302)
            self.send_header("Location", f"http://example.com{self.path}")
            self.end_headers()
        elif self.path.startswith("/moved/"):
            self.send_response(301)
            self.send_header("Location", self.path.replace("/moved", "") + "?signed=1")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Cache and data folders of their own."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "data" / name)
    remote_weights._listed.cache_clear()
    yield tmp_path / "cache/blrobust/weights"
    remote_weights._listed.cache_clear()


@contextmanager
def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site(tmp_path, cache, monkeypatch):
    """A folder with one checkpoint and its list, which a server offers at the address in BLROBUST_WEIGHTS."""
    folder = tmp_path / "site"
    folder.mkdir()
    file = folder / f"{STEM}.safetensors"
    shutil.copy(zoo.BUNDLED / "cifar10-resnet20-fft85.safetensors", file)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{checksum}  {file.name}\n{checksum}  ../up.safetensors\n")
    Handler.asked.clear()
    with served(folder) as address:
        monkeypatch.setenv("BLROBUST_WEIGHTS", address)
        yield folder


@pytest.fixture(scope="module")
def sample():
    return datasets.load("cifar10-sample")


def load(name, sample):
    return zoo.load(name, dataset=sample, device=CPU)


def test_a_name_fetches_its_weights_once(site, cache, sample, capsys):
    model = load("fft33", sample)
    checksum = hashlib.sha256((site / f"{STEM}.safetensors").read_bytes()).hexdigest()
    path = cache / checksum[:16] / f"{STEM}.safetensors"
    assert (model.card.checkpoint, model.card.sha256) == (str(path), checksum)
    assert f"100 %: {STEM}" in capsys.readouterr().err
    load("fft33", sample)
    assert Handler.asked == ["/SHA256SUMS", f"/{STEM}.safetensors"]
    assert not load("fp32", sample).card.checkpoint.startswith(str(cache))  # the bundled one


def test_own_weights_have_priority_over_fetched_ones(site, cache, sample):
    own = zoo.own_weights_folder()
    assert own.parts[-3:] == ("data", "blrobust", "weights")
    own.mkdir(parents=True)
    shutil.copy(site / f"{STEM}.safetensors", own)
    assert load("fft33", sample).card.checkpoint == str(own / f"{STEM}.safetensors")
    assert Handler.asked == ["/SHA256SUMS"]


def test_the_command_lists_what_is_there_and_what_would_be_fetched(site, sample, capsys):
    def listed():
        with pytest.raises(SystemExit):
            main(["models"])
        return capsys.readouterr().out

    told = f"fetched when a model name needs them: {STEM}\n"
    assert told in listed()
    load("fft33", sample)
    capsys.readouterr()
    out = listed()
    assert told not in out
    assert "fft33" in out


def test_a_damaged_copy_is_fetched_again(site, cache, sample):
    path = Path(load("fft33", sample).card.checkpoint)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    load("fft33", sample)
    assert path.read_bytes() == whole


def test_a_file_with_another_checksum_is_not_kept(site, cache, sample):
    file = site / f"{STEM}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(
        UserError, match=r"got http\S+fft33.safetensors with the checksum \w{64}; legal: \w{64}, as"
    ):
        load("fft33", sample)
    assert not list(cache.glob("*/*"))


def test_without_a_network_kept_files_serve(site, sample, monkeypatch):
    card = load("fft33", sample).card
    remote_weights._listed.cache_clear()
    monkeypatch.setattr("urllib.request.OpenerDirector.open", unreachable)
    assert load("fft33", sample).card == card
    shutil.rmtree(Path(card.checkpoint).parent)
    with pytest.raises(UserError, match=r"^BLROBUST_WEIGHTS: http\S+ cannot be fetched: no route; legal"):
        load("fft33", sample)


def unreachable(*arguments, **options):
    raise OSError("no route")


def test_without_a_network_and_a_list_it_is_one_line(cache, sample, monkeypatch, capsys):
    address = "https://example.com/weights"
    monkeypatch.setenv("BLROBUST_WEIGHTS", address)
    monkeypatch.setattr("urllib.request.OpenerDirector.open", unreachable)
    told = f"BLROBUST_WEIGHTS: {address}/SHA256SUMS cannot be fetched: no route; legal: a folder"
    with pytest.raises(UserError) as caught:
        load("fp32", sample)
    assert str(caught.value).startswith(told)
    with pytest.raises(SystemExit) as exit_:
        main(["models"])
    out, err = capsys.readouterr()
    assert exit_.value.code == 0
    assert err.startswith(f"left out: {told}")
    assert len(err.splitlines()) == 1
    assert "fft85" in out


def test_a_server_that_does_not_answer(cache, sample, monkeypatch):
    monkeypatch.setattr(remote_weights, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("BLROBUST_WEIGHTS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UserError, match=r"SHA256SUMS cannot be fetched: .*timed out"):
            load("fp32", sample)


@pytest.mark.parametrize(
    ("path", "told"),
    [("/nowhere", "404"), ("/elsewhere", "got http://example.com/elsewhere/SHA256SUMS; legal")],
)
def test_wrong_answers(site, sample, monkeypatch, path, told):
    monkeypatch.setenv("BLROBUST_WEIGHTS", os.environ["BLROBUST_WEIGHTS"] + path)
    with pytest.raises(UserError, match=told):
        load("fp32", sample)


def test_a_redirect_may_have_parameters(site, sample, monkeypatch):
    monkeypatch.setenv("BLROBUST_WEIGHTS", os.environ["BLROBUST_WEIGHTS"] + "/moved/")
    assert load("fft33", sample).card.checkpoint.endswith(f"{STEM}.safetensors")


@pytest.mark.parametrize(
    "text", ["", "<html>", f"{'0' * 63}  a.safetensors\n", f"{'0' * 64}  a/b.safetensors\n"]
)
def test_other_lists(site, sample, text):
    (site / "SHA256SUMS").write_text(text)
    with pytest.raises(UserError, match=r"got http\S+SHA256SUMS without a checkpoint; legal: lines CHECKSUM"):
        load("fp32", sample)


def test_files_that_are_too_large(site, sample, monkeypatch):
    monkeypatch.setattr(remote_weights, "MOST_LIST", 10)
    with pytest.raises(UserError, match="with more than 10 bytes; legal: at most 10"):
        load("fp32", sample)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/weights",
        "http://localhost.example.com",
        "ftp://example.com",
        "file:///etc",
        "https://",
        "https://user:secret@example.com",
        "https://example.com/a?b=c",
        "https://example.com/a#b",
        "https://example.com/a b",
        "https://example.com:port",
        "https://[::1",
    ],
)
def test_other_addresses(cache, sample, monkeypatch, address):
    monkeypatch.setenv("BLROBUST_WEIGHTS", address)
    with pytest.raises(UserError, match=r"^BLROBUST_WEIGHTS: got .+; legal: a folder, or an address https"):
        load("fp32", sample)
    with pytest.raises(UserError, match="legal: a folder, or an address"):
        zoo.own_weights_folder()
