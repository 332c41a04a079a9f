from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import stand_in

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.models.model_names import (
    CIFAR10_CLASSES,
    CONTROLS,
    GRAMMAR,
    NARROW_WIDTH,
    Target,
    facts_of,
    file_stem,
    is_plain,
    join_names,
    label_of,
    parse_names,
    settings_of,
    split_seed,
    trained_on,
    with_seed,
)


def images(name="cifar10", *, classes=10, shape=(3, 32, 32), names=None):
    return Dataset(
        name=name,
        split="test",
        images=torch.zeros((2, *shape), dtype=torch.uint8),
        labels=torch.zeros(2, dtype=torch.int64),
        classes=names or tuple(map(str, range(classes))),
        mean=stand_in.CIFAR_MEAN[: shape[0]],
        std=stand_in.CIFAR_STD[: shape[0]],
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fp32", ["fp32"]),
        ("fp32,fft50,fft85", ["fp32", "fft50", "fft85"]),
        (" fp32 , fft50 ", ["fp32", "fft50"]),
        ("mine=a.safetensors,fp32", ["mine=a.safetensors", "fp32"]),
        ('"a, b = c=x.safetensors",fp32', ["a, b = c=x.safetensors", "fp32"]),
        ('fp32, "a,b=m:f"', ["fp32", "a,b=m:f"]),
        ('5" disk=m:f', ['5" disk=m:f']),
        ('"say ""hi"", twice=m:f"', ['say "hi", twice=m:f']),
        ("fp32,a=x.safetensors,b=x.safetensors", ["fp32", "a=x.safetensors", "b=x.safetensors"]),
        ("Größe 漢字 <b>=m:f", ["Größe 漢字 <b>=m:f"]),
    ],
)
def test_lists(text, names):
    assert parse_names(text) == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty name"),
        ("  ", "empty name"),
        (",", "empty name"),
        ("fp32,", "empty name"),
        ("fp32,,fft50", "empty name"),
        ('fp32,""', "empty name"),
        ("fp32,fp32", "model 'fp32' is given twice"),
        ("fp32, fp32 ", "given twice"),
        ("a=x.safetensors,a=y.safetensors", "model 'a' is given twice"),
        ("fp32,fp32=mine.safetensors", "model 'fp32' is given twice"),
        ("=x.safetensors", "label ''"),
        (" =x.safetensors", "label"),
        ("a\tb=x.safetensors", "printable"),
        ("a\x1b[31m=m:f", "printable"),
        ("a\u202eb=m:f", "printable"),
        ("fp32\nfft50", "fp32"),
        ("fp32\rfft50", "fp32"),
        ('"a\nb=m:f"', "printable"),
        ("=1+2=m:f", "label '=1+2' of model '=1+2=m:f' starts as a formula"),
        ("+a=m:f", "does not start with = + - @"),
        ("-a=m:f", "formula"),
        ("@a=m:f", "formula"),
        ("fp32, - a=m:f", "formula"),
    ],
)
def test_lists_that_are_refused(text, told):
    with pytest.raises(UserError) as caught:
        parse_names(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("fft50", "fft50"),
        ("mine=m.safetensors", "mine"),
        ("a=b=c=m.safetensors", "a=b=c"),
        ("lr=0.1, wd=5e-4=runs/x.safetensors", "lr=0.1, wd=5e-4"),
        ("<script>=m:f", "<script>"),
    ],
)
def test_a_label_ends_at_the_last_equals_sign(name, label):
    assert label_of(name) == label


@pytest.mark.parametrize(
    ("name", "precision", "compression", "fft_size"),
    [
        ("fp32", "fp32", 0.0, "paper"),
        ("fp16", "fp16", 0.0, "paper"),
        ("bf16", "bf16", 0.0, "paper"),
        ("fp32-early", "fp32", 0.0, "paper"),
        ("fft50", "fp32", 0.48, "paper"),  # the paper's
        ("fft85", "fp32", 0.84, "paper"),  # the paper's
        ("fft50-compact", "fp32", 0.48, "compact"),
        ("fft1", "fp32", 0.01, "paper"),
        ("fft9", "fp32", 0.09, "paper"),
        ("fft48", "fp32", 0.48, "paper"),
        ("fft84", "fp32", 0.84, "paper"),
        ("fft86", "fp32", 0.86, "paper"),
        ("fft99-compact", "fp32", 0.99, "compact"),
        ("fp16-fft50", "fp16", 0.48, "paper"),
        ("bf16-fft85", "bf16", 0.84, "paper"),
        ("fp16-fft50-compact", "fp16", 0.48, "compact"),
    ],
)
def test_what_names_stand_for(name, precision, compression, fft_size):
    facts = facts_of(name, arch="resnet18", dataset=images())
    assert (facts.precision, facts.compression, facts.fft_size) == (precision, compression, fft_size)
    assert (facts.arch, facts.classes, facts.dataset) == ("resnet18", 10, "cifar10")
    assert (facts.mean, facts.std) == (stand_in.CIFAR_MEAN, stand_in.CIFAR_STD)
    assert (facts.test_accuracy, facts.holdout_accuracy, facts.recipe) == (None, None, {})


def test_controls_differ_from_fp32_by_one_thing():
    found = {name: facts_of(name, arch="resnet20", dataset=images()) for name in ("fp32", *CONTROLS)}
    plain = found.pop("fp32")
    assert found["fp32-early"] == found["fp32-noise"] == plain
    assert found["fp32-lowpass"] == replace(plain, low_pass=0.84)
    assert found["fp32-narrow"] == replace(plain, width=NARROW_WIDTH["resnet20"])
    with pytest.raises(UserError, match="got fp32-narrow for resnet18; legal: resnet20"):
        facts_of("fp32-narrow", arch="resnet18", dataset=images())


@pytest.mark.parametrize(
    ("name", "label", "channels", "model"),
    [
        ("fp32", "fp32", (), "fp32"),
        ("lowpass0.48+fp32", "lowpass0.48+fp32", ("lowpass0.48",), "fp32"),
        ("lowpass-fft85+fp32", "lowpass-fft85+fp32", ("lowpass-fft85",), "fp32"),
        ("mine=lowpass.5+depth5+mine:net", "mine", ("lowpass.5", "depth5"), "mine:net"),
        ("a=b=blur0.6+w/a+b.safetensors", "a=b", ("blur0.6",), "w/a+b.safetensors"),
        ("x=./lowpass0.5+y.safetensors", "x", (), "./lowpass0.5+y.safetensors"),
        ("x=depthwise:net", "x", (), "depthwise:net"),
        ("x=lowpassnet.safetensors", "x", (), "lowpassnet.safetensors"),
    ],
)
def test_channels_stand_in_front_of_the_model(name, label, channels, model):
    assert Target.of(name) == Target(label, channels, model)


@pytest.mark.parametrize("name", ["lowpass0.48", "x=depth5", "depth5+", "blur1+lowpass0.5"])
def test_a_channel_needs_a_model(name):
    with pytest.raises(UserError, match=r"got the channel '\S+' without a model; legal: \S+\+fp32"):
        Target.of(name)


@pytest.mark.parametrize("percent", range(1, 100))
def test_every_percentage(percent):
    wanted = {50: 0.48, 85: 0.84}.get(percent, percent / 100)
    assert facts_of(f"fft{percent}", arch="resnet20", dataset=images()).compression == wanted


NO_NAMES = """
    fp64 fft0 fft00 fft05 fft100 fft-5 fft5.5 fft FP32 Fft50 fft٥٠ fp32-fft50 fp32-compact fp16-compact
    fft50-compact-compact fft50-paper compact fp16-fp32 fft50-fp16 fp32-early-compact early resnet20 ../fp32
    fft50-seed0 fft50-seed01 fft50-seed-1 fft50-seed fft50-seed1-seed2 fft50-seed1-compact fp32-seed٢ seed1
    -seed1 fft50-seed1234567890
"""


@pytest.mark.parametrize("name", [*NO_NAMES.split(), "", "fft50 ", "fft50\n"])
def test_other_names(name):
    with pytest.raises(UserError) as caught:
        facts_of(name, arch="resnet20", dataset=images())
    message = str(caught.value)
    assert message.startswith(f"unknown model {name!r}; legal are fp32, fp16, bf16, fp32-early, fp32-noise")
    assert "LABEL=FILE.safetensors" in message
    assert "\n" not in message


def test_other_architectures():
    with pytest.raises(UserError, match="arch: got 'vgg'; legal: resnet20, resnet18"):
        facts_of("fp32", arch="vgg", dataset=images())


@pytest.mark.parametrize(
    ("dataset", "found"),
    [
        (images(), "cifar10"),
        (images("cifar10-sample"), "cifar10"),
        (images("cifar100", classes=100), "cifar100"),
        (images("npz:/data/mine.npz"), "cifar10"),  # CIFAR-like: its weights fit
        (images("folder:/x", names=CIFAR10_CLASSES), "cifar10"),
        (images("folder:/x"), "folder-x"),  # ten classes, but others
        (images("npz:x", names=tuple(reversed(CIFAR10_CLASSES))), "npz-x"),
        (images("npz:/data/mine.npz", classes=9), "npz-data-mine-npz"),
        (images("folder:~/a b", shape=(3, 64, 64)), "folder-a-b"),
        (images("folder:x", shape=(1, 32, 32)), "folder-x"),
    ],
)
def test_whose_weights_fit(dataset, found):
    assert trained_on(dataset) == found
    assert facts_of("fp32", arch="resnet20", dataset=dataset).dataset == found


@pytest.mark.parametrize(
    ("name", "network", "seed"),
    [
        ("fft50", "fft50", 0),
        ("fft50-seed1", "fft50", 1),
        ("fft50-compact-seed2", "fft50-compact", 2),
        ("fp16-fft50-seed12", "fp16-fft50", 12),
        ("fp32-early-seed1", "fp32-early", 1),
        ("bf16-seed999999999", "bf16", 999_999_999),
    ],
)
def test_seeds(name, network, seed):
    assert split_seed(name) == (network, seed)
    assert with_seed(network, seed) == name
    assert is_plain(name)
    assert settings_of(name) == settings_of(network)
    facts = facts_of(name, arch="resnet20", dataset=images())
    assert facts == replace(facts_of(network, arch="resnet20", dataset=images()), seed=seed)
    assert file_stem(name, arch="resnet20", dataset="cifar10") == f"cifar10-resnet20-{name}"


def test_a_seed_is_part_of_the_model_behind_channels():
    assert Target.of("depth5+fp32-seed2").model == "fp32-seed2"
    assert split_seed("depth5+fp32-seed2") == ("depth5+fp32", 2)


@pytest.mark.parametrize("seed", [-1, 10**9])
def test_seeds_without_a_name(seed):
    with pytest.raises(UserError, match=rf"seed: got {seed} for fp32; legal: 0 to 999999999 in the name"):
        with_seed("fp32", seed)


def test_file_stem():
    assert file_stem("fft50-compact", arch="resnet20", dataset="cifar10") == "cifar10-resnet20-fft50-compact"


def test_the_grammar_names_every_form():
    text = " ".join(GRAMMAR)
    for form in (
        "fp32",
        "fp16",
        "bf16",
        "fftNN",
        "fp16-fftNN",
        "fp32-early",
        "fp32-noise",
        "fp32-lowpass",
        "fp32-narrow",
        "CHANNEL+",
        "lowpassC",
        "-compact",
        "NAME@NN",
        "-seedN",
        "=FILE",
        ":FACTORY",
    ):
        assert form in text


@given(
    names=st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, unique=True)
)
def test_joined_names_are_split_again(names):
    names = [name for name in names if "=" not in name] or ["fp32"]
    assert parse_names(join_names(names)) == names


def test_labels_with_quotes_and_commas():
    names = ['a"b=m:f', '"c"=m:f', "d, e=m:f"]
    assert parse_names(join_names(names)) == names
