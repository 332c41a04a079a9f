"""The options of the command line, for the names of arguments in messages."""

# argument of a function for Python -> its option on the command line
OPTIONS = {
    "arch": "--arch",
    "attacks": "--kind",
    "baseline": "--baseline",
    "batch_size": "--batch-size",
    "data_dir": "--data-dir",
    "device": "--device",
    "folder": "FOLDER",
    "limit": "--limit",
    "networks": "--networks",
    "out": "--out",
    "parameters": "--set",
    "run": "RUN",
    "runs": "RUN",
    "save_adversarials": "--save-adversarials",
    "size": "--size",
    "source": "--source",
    "space": "--legacy",
    "target": "--target",
}


def with_option(message: str) -> str:
    """Return the message with the name of the option in place of the argument that it begins with."""
    name, colon, rest = message.partition(":")
    return f"{OPTIONS.get(name, name)}{colon}{rest}"
