"""Commands with hostile options and names, drawn by hypothesis."""

import click
from hypothesis import strategies as st

from blrobust.cli import cli
from faults.hostile import texts

SAMPLE = ("--dataset", "cifar10-sample", "--limit", "2")
SHORT: dict[str, list[str]] = {  # options that keep a command short
    "noise": [*SAMPLE, "--models", "fp32", "--sigma", "0"],
    "attack": [*SAMPLE, "--models", "fp32", "--kind", "fgsm", "--strength", "2/255"],
    "heatmap": [*SAMPLE, "--size", "1"],
    "recover": [*SAMPLE, "--kind", "fgsm", "--networks", "fft50", "--compressions", "0.5", "--bits", "4"],
    "train": ["--arch", "tiny", "--epochs", "1", "--device", "cpu", "--batch-size", "16"],
}
ARGUMENT = {"heatmap": "fp32", "train": "fp32", "report": "run", "runs": "."}
NOT_VARIED = ("--help", "--open", "--verify")


def _options(name: str) -> list[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    found = [option for parameter in command.params for option in parameter.opts]
    return [option for option in found if option.startswith("--") and option not in NOT_VARIED]


@st.composite
def hostile_command(draw: st.DrawFn) -> list[str]:
    """Return a command with up to three hostile texts in place of legal ones, or of none."""
    name = draw(st.sampled_from(cli.list_commands(click.Context(cli))))
    arguments = [name]
    if name in ARGUMENT:
        arguments.append(draw(texts) if draw(st.integers(0, 2)) == 0 else ARGUMENT[name])
    arguments += SHORT.get(name, [])
    if options := _options(name):
        for option in draw(st.lists(st.sampled_from(options), min_size=1, max_size=3)):
            arguments.append(option)
            if draw(st.integers(0, 19)):
                arguments.append(draw(texts))
    # Nothing is downloaded.
    return [argument for argument in arguments if name not in ("data", "models") or argument != "get"]


@st.composite
def hostile_name(draw: st.DrawFn) -> list[str]:
    """Return a command with a hostile label of a model and a hostile folder."""
    command = draw(st.sampled_from(["noise", "attack", "recover"]))
    arguments = [command, *SHORT[command]]
    if command != "recover":
        arguments += ["--models", f"{draw(texts)}=fp32"]
    if command == "attack":
        arguments.append("--save-adversarials")
    return [*arguments, "--out", draw(texts | st.sampled_from(["new", "a b", "run", "precious"]))]
