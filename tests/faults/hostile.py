"""Hostile texts and values, drawn by hypothesis."""

from typing import Any

from hypothesis import strategies as st

# Legal for one of the options, or almost.
_LISTED = """
- -- 0 -1 1 2 nan inf -inf 1e400 1e39 1e-400 0x10 1_0 1e9 0:2 2:0 0:2:0 0:1:1e-9 0:2:nan : :: 1:2:3:4 0,0.1
0.1,0.1 , 0,,1 1/255 1/0 8/255,0 0/0 =1+1 @x +x -x ' " `id` $(id) ; | * .. ../.. ~ ~nobody/x / /dev/null
/dev/full /dev/zero /proc/self/mem nothing precious precious.txt run data.npz weights.safetensors CON
nul.txt fp32 fp32,fp32 fft85,fp32 FP32 fft999 fft-1 fft lowpass lowpass0.5+ +fp32 lowpass0.5+fp32
lowpass2+fp32 depth0+fp32 depth5+depth5+fp32 blurnan+fp32 x=fp32 =fp32 x=y:z x=os:getcwd x=sys:exit
x=weights.safetensors a=b=c:d x=: cifar10 cifar10-sample imagenet folder: folder:precious folder:data.npz
npz: npz:data.npz npz:precious.txt npz:/dev/zero cpu cuda cuda:99 mps meta cpu:5 pgd-linf pixel fgsm,fgsm
suite:quick suite: all steps=1 steps=-1 steps=nan steps=1e9 x=1 steps= = pgd-linf.steps=2 nothing.steps=2
resnet20 resnet18 auto
"""
_ODD = ["", " ", "\u0661", "\uff11", "9" * 400, "a" * 300, "a" * 5000, "\x1b[31mred", "\x07", "\r", "a\nb"]
_TEXTS = [*_LISTED.split(), *_ODD, "\tx", "\u202eabc", "é"]

# No process can have NUL or a lone surrogate among its arguments.
_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_words = (
    st.sampled_from(_TEXTS)
    | st.text(_characters, max_size=12)
    | st.integers().map(str)
    | st.floats().map(repr)
)


def _joined(mark: str) -> st.SearchStrategy[str]:
    return st.lists(_words, min_size=2, max_size=3).map(mark.join)


texts = st.one_of(st.sampled_from(_TEXTS), _words, *map(_joined, (",", "=", ":", "/", ".", "+")))

# Values of JSON, and the numbers that only Python's reader accepts.
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([10**30, 10**400]) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
) | st.sampled_from([5, 200, 500]).map(lambda depth: _nested(depth))


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value
