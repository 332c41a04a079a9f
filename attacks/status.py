"""The outcome of an attack on one sample."""

from enum import IntEnum


class Status(IntEnum):
    """What became of a sample under attack; only ``ADVERSARIAL`` is a success."""

    ADVERSARIAL = 0  # the returned input passed every check and is misclassified
    NOT_ADVERSARIAL = 1  # the returned input is classified correctly
    NOT_ATTACKED = 2  # strength 0, or wrong before an attack that searches
    NOT_FINITE = 3  # NaN or infinity returned
    OUT_OF_BOUNDS = 4  # returned beyond the bounds of the inputs
    BEYOND_EPSILON = 5  # returned further away than the strength allows
    RAISED = 6  # the attack raised an error for the sample
    TOO_FAR = 7  # misclassified, but at a larger distance than the strength
    IS_TARGET = 8  # its own label is the class to aim at: there is nothing to attack
