"""`blrobust paper`: the experiments of the paper on band-limited networks, one command each."""

import click

from blrobust.cli.lazy_group import LazyGroup

# command -> (module, one line for --help), as in `blrobust.cli.COMMANDS`
COMMANDS = {
    "rates": ("blrobust.cli.paper_rates", "Clean accuracy by band limit (Table 1, Fig. 3)."),
    "mismatch": ("blrobust.cli.paper_mismatch", "Trained at one band limit, tested at others (Fig. 5)."),
    "cifar10": ("blrobust.cli.paper_cifar10", "All experiments on CIFAR-10, within a given time."),
}


@click.group("paper", cls=LazyGroup, table=COMMANDS)
def command() -> None:
    """Repeat the experiments of Dziedzic et al. 2019, "Band-limited Training and Inference".

    Each command works on any architecture and data set for which there are trained weights. Like all
    measurements, they are stored in run folders, and the same command resumes an interrupted one.
    """
