"""The plan of `blrobust train --dry-run`, and the check of its output folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blrobust.cli import output
from blrobust.terminal import echo

if TYPE_CHECKING:
    from blrobust.training.trainee import Trainee


def check_unused(trainees: "Sequence[Trainee]") -> None:
    """Raise `UserError` if the state or the checkpoint of one of the models exists in the output folder."""
    from blrobust.errors import UserError
    from blrobust.training.trainee import occupied

    for trainee in trainees:
        if trainee.state_path.exists():
            raise UserError(
                f"--out: got a folder with a stopped training, {trainee.state_path}; legal: give --resume, "
                "or remove this file"
            )
    for trainee in trainees:
        if trainee.path.exists():
            raise occupied(trainee.path)


def print_plan(trainees: "Sequence[Trainee]", *, images: int, device: str, resume: bool) -> None:
    """Print the size of each training, its device, its checkpoint, and the part that is stored.

    Raises `UserError` for files in the output folder with which the training could not begin or continue.
    """
    if not resume:
        check_unused(trainees)
    plans = []
    for trainee in trainees:
        if trainee.path.exists():
            state = "finished; nothing would be trained"
        elif epochs := trainee.resume():
            state = f"resumes after epoch {epochs}"
        else:
            state = "a new training"
        plan = {"name": trainee.name, "path": trainee.path, "epochs": trainee.recipe.epochs}
        plans.append(plan | {"images": images, "device": device, "state": state})
    if output.is_json():
        output.print_json(plans)
        return
    for plan in plans:
        size = f"{plan['epochs']:,} epochs x {plan['images']:,} images"
        echo(f"{plan['name']}: {size} on {plan['device']} -> {plan['path']} ({plan['state']})")
