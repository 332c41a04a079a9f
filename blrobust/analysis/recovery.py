"""The numbers of a recovery of labels: a row for each attack and channel.

A channel is a transform of the image, or another network, that may restore the correct label.
"""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from blrobust.analysis.flags import member_flag, model_flags, rejected_flag
from blrobust.analysis.statistics import Bools, wilson
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.attacks.status import NO_GRADIENTS, REJECTED
from blrobust.runs.configuration import Recover
from blrobust.runs.packed_arrays import Outcomes
from blrobust.runs.run import Run

TABLE = (
    *("attack", "strength", "source", "kind", "channel", "effective_compression", "n", "right", "fooled"),
    *("recovered", "clean", "adaptive", "recovered_share", "ci_low", "ci_high"),
    *("distortion", "adaptive_l2", "not_finite", "rejected", "source_rejected"),
)  # results.csv of a recovery


class Recovered(NamedTuple):
    """Numbers of one channel, counted among the fooled images: those on which the attack fools the source.

    - `recovered`: images whose adversarial input, passed through the channel, is classified correctly.
    - `clean`: images that, passed through the channel without an attack, are classified correctly.
    - `adaptive`: those images of `clean` on which the adaptive attack fails. The adaptive attack runs on the
      channel and the network together.
    - `distortion`: mean L2 distance between the clean image and the adversarial input after the transform of
      the channel.
    - `broken`: those images of `clean` on which the adaptive attack finds an adversarial input.
    - `adaptive_l2`: mean L2 distance between the images of `broken` and the inputs that the adaptive attack
      finds, before the channel.
    - `not_finite`: images, among all and not only the fooled ones, for which the logits of the adversarial
      input or of the clean image are not finite; these predictions count as wrong.
    - `rejected`: those images of `adaptive` for which the input that the adaptive attack returns fails a
      check, or the attack raises an error. None if the run stores no status of its attacks.
    """

    recovered: int
    clean: int
    adaptive: int
    broken: int
    distortion: float
    adaptive_l2: float
    not_finite: int
    rejected: int | None


def count(outcomes: Outcomes, *, labels: NDArray[np.int16], fooled: Bools) -> Recovered:
    """Return the numbers of one channel, given the outcomes that `evaluation.recovery.recover` returned.

    `fooled`, bool (n,), marks the images on which the attack fools the source.
    """
    on_adversarial, on_clean, broken = (outcomes[key] for key in ("prediction", "clean_prediction", "broken"))
    right, clean = on_adversarial == labels, on_clean == labels
    return Recovered(
        recovered=int((right & fooled).sum()),
        clean=int((clean & fooled).sum()),
        adaptive=int((clean & fooled & ~broken).sum()),
        broken=int((broken & fooled).sum()),
        distortion=_mean(outcomes["distance"][fooled]),
        adaptive_l2=_mean(outcomes["adaptive_distance"][broken & fooled]),
        not_finite=int(((on_adversarial < 0) | (on_clean < 0)).sum()),
        rejected=count_rejected(outcomes, among=fooled),
    )


def count_rejected(outcomes: Outcomes, *, among: Bools) -> int | None:
    """Return the number of images with a rejected attack, among the images that `among`, bool (n,), marks.

    An attack is rejected if its result failed a check or if it raised an error. The number is None if the
    outcomes have no status of the attack, as in runs of earlier builds of version 0.1.0.
    """
    return int(np.isin(outcomes["reason"][among], REJECTED).sum()) if "reason" in outcomes else None


class _Source(NamedTuple):
    """Two masks, bool (n,): images that the source classifies correctly, and those that an attack breaks.

    `rejected` is the result of `count_rejected` for all images.
    """

    right: Bools
    fooled: Bools
    rejected: int | None


class RecoveryAnalysis:
    """The results of a recovery, read from the run folder and computed once.

    In an unfinished run, attacks and channels without results are left out.
    """

    def __init__(self, run: Run, config: Recover) -> None:
        """Prepare to read the results of `run`, which has the configuration `config`."""
        self.run = run
        self.config = config

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per attack and channel that is measured.

        The columns are those of `TABLE`: the fields of `Recovered` and, among others:

        - effective_compression: that of the channel.
        - right: the number of clean images that the source classifies correctly.
        - fooled: the number of these images on which the attack fools the source.
        - source_rejected: the number of images for which the attack on the source failed a check or raised an
          error.
        - recovered_share: recovered / fooled; ci_low and ci_high are the ends of its Wilson 95 % interval.

        The field `broken` is not a column.
        """
        rows = []
        for (attack, channel), counts in self._counts.items():
            source = self._source[attack]
            n = int(source.fooled.sum())
            share = wilson(counts.recovered / n, n) if n else (math.nan,) * 3
            kind, compression = self._channels[channel]
            rows.append(
                {
                    "attack": attack,
                    "strength": self.config.kinds[attack],
                    "source": self.config.source,
                    "kind": kind,
                    "channel": channel,
                    "effective_compression": compression,
                    "n": len(source.fooled),
                    "right": int(source.right.sum()),
                    "fooled": n,
                    **counts._asdict(),
                    "source_rejected": source.rejected,
                    **dict(zip(("recovered_share", "ci_low", "ci_high"), share, strict=True)),
                }
            )
        frame = pd.DataFrame(rows, columns=list(TABLE))
        lengths = {"distortion": float, "adaptive_l2": float, "strength": float}
        return frame.astype({**lengths, "rejected": "Int64", "source_rejected": "Int64"})

    @cached_property
    def broken(self) -> dict[tuple[str, str], int]:
        """The number of images of which `adaptive_l2` is the mean, by (attack, channel)."""
        return {key: counts.broken for key, counts in self._counts.items()}

    @cached_property
    def flags(self) -> dict[tuple[str, str], list[str]]:
        """The flags of each (attack, channel): reasons to doubt its numbers.

        They are

        - the flags of the network behind the channel and of the source; those about gradients only for
          attacks that use gradients,
        - the number of predictions of this network without finite logits,
        - for the attack on the source, and for the adaptive attack: that the model has no gradients, that
          only one attack of an ensemble ran for this reason, and the number of inputs that failed a check or
          for which the attack raised an error (`source_rejected` and `rejected` of `table`).
        """
        found = {}
        for (attack, channel), counts in self._counts.items():
            kind, _ = self._channels[channel]
            network = channel if kind == "network" else self.config.source
            flags = self._model_flags(attack, network, not_finite=counts.not_finite)
            of_source = self._attack_flags(attack, self.config.source, self._source[attack].rejected)
            if network != self.config.source:
                of_source = self._model_flags(attack, self.config.source, not_finite=0) + of_source
            flags += [f"source: {flag}" for flag in of_source]
            found[attack, channel] = flags + self._attack_flags(attack, channel, counts.rejected)
        return found

    def write_csv(self) -> None:
        """Write results.csv in the run folder, completely or not at all."""
        self.run.write_results(self.table)

    @cached_property
    def _channels(self) -> dict[str, tuple[str, float | None]]:
        """Kind and effective compression of each channel."""
        return {c.name: (c.kind, c.effective_compression) for c in self.config.channels}

    @cached_property
    def _counts(self) -> dict[tuple[str, str], Recovered]:
        """The numbers of each (attack, channel) that is measured."""
        done = {(kind, subject) for subject, kind, *_ in self.run.done()}
        return {
            (attack, channel): count(
                self._outcomes(attack, channel), labels=self.run.labels, fooled=self._source[attack].fooled
            )
            for attack in self.run.kinds
            for channel in self._channels
            if {(attack, channel), (attack, self.config.source)} <= done
        }

    @cached_property
    def _source(self) -> dict[str, _Source]:
        """The outcomes of each attack on the source."""
        source, labels = self.config.source, self.run.labels
        found = {}
        for attack in {kind for subject, kind, *_ in self.run.done() if subject == source}:
            outcomes = self._outcomes(attack, source)
            right = outcomes["prediction"] == labels
            rejected = count_rejected(outcomes, among=np.ones_like(right))
            found[attack] = _Source(right, outcomes["success"], rejected)
        return found

    def _model_flags(self, attack: str, label: str, *, not_finite: int) -> list[str]:
        """Return the flags of a model, without those about gradients where the attack uses none.

        Missing gradients are left out, because they belong to an attack (`_attack_flags`).
        """
        spec = ATTACKS.get(attack)
        uses_gradients = spec is None or spec.gradients
        flags = model_flags(self.run.record, label, not_finite=not_finite)
        return [flag for flag in flags if flag != NO_GRADIENTS and (uses_gradients or "answers" in flag)]

    def _attack_flags(self, attack: str, subject: str, rejected: int | None) -> list[str]:
        """Return the flags of an attack on the source or on a channel."""
        flags = []
        if self._outcomes(attack, subject)["no_gradients"].any():
            revision = self.config.revisions.get(attack, 1)
            flags = [NO_GRADIENTS, *member_flag(attack, parameters=None, revision=revision)]
        return flags + rejected_flag(rejected or 0)

    def _outcomes(self, attack: str, subject: str) -> Outcomes:
        (level,) = self.run.levels(attack)
        return self.run.outcome(subject, attack, level, 0)


def _mean(values: NDArray[np.float32]) -> float:
    """Return the mean, NaN if there are no values."""
    return float(torch.from_numpy(values).mean()) if len(values) else math.nan
