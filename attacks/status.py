"""The outcomes of an attack on one sample, and the name of the check that finds missing gradients."""

from enum import IntEnum

NO_GRADIENTS = "no gradients"


class Status(IntEnum):
    """The outcome of an attack on one sample; only `ADVERSARIAL` is a success."""

    ADVERSARIAL = 0  # the returned input passed every check and is misclassified
    NOT_ADVERSARIAL = 1  # the returned input is classified correctly
    NOT_ATTACKED = 2  # at level 0, or misclassified without any perturbation
    NOT_FINITE = 3  # the returned input has a NaN or an infinity
    OUT_OF_BOUNDS = 4  # the returned input is beyond the bounds of the space
    BEYOND_EPSILON = 5  # the returned input is further away than the level allows
    RAISED = 6  # the attack raised an error for the sample
    TOO_FAR = 7  # misclassified, but at a larger distance than the level
    IS_TARGET = 8  # the target class is the sample's label, so there is nothing to attack


# For these, the input that the attack returned was replaced by the unperturbed one, which counts as robust.
REJECTED = (Status.NOT_FINITE, Status.OUT_OF_BOUNDS, Status.BEYOND_EPSILON, Status.RAISED)
