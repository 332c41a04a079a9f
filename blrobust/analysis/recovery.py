"""The numbers of a recovery of labels: a row for each attack and channel.

A channel is a transform of the image, or another network, that may restore the correct label.
"""

import math

import pandas as pd

from blrobust.analysis.flags import model_flags
from blrobust.analysis.statistics import wilson
from blrobust.runs.measurement import Measurement


def table(measurement: Measurement) -> pd.DataFrame:
    """Return one row for each measured attack and channel, the content of recovery.csv.

    - attack, strength, source, kind (of the channel), channel, effective_compression;
    - n: number of images; right: those that the source classifies correctly; fooled: those of the right ones
      that the attack fools;
    - recovered: number of fooled images whose perturbed input is correct behind the channel; clean: number of
      those whose clean image is correct there; adaptive: number of the latter that also withstand an attack
      on channel and network together;
    - recovered_share, with ci_low and ci_high: share of the fooled images, Wilson interval (95 %);
    - distortion, adaptive_l2: mean L2 distances;
    - not_finite: number of images with logits that are not finite.
    """
    config, rows = measurement.record["config"], []
    for attack, level in config["kinds"].items():
        for kind, channel, compression in config["channels"]:
            if f"{attack}/{channel}" not in measurement.done:
                continue
            counts, source = measurement.done[f"{attack}/{channel}"], measurement.done[attack]
            n = source["fooled"]
            share = wilson(counts["recovered"] / n, n) if n else (math.nan,) * 3
            rows.append(
                {
                    "attack": attack,
                    "strength": level,
                    "source": config["source"],
                    "kind": kind,
                    "channel": channel,
                    "effective_compression": compression,
                    "n": measurement.record["dataset"]["n"],
                    **source,
                    **{name: counts[name] for name in ("recovered", "clean", "adaptive")},
                    **dict(zip(("recovered_share", "ci_low", "ci_high"), share, strict=True)),
                    "distortion": counts["distortion"],
                    "adaptive_l2": counts["adaptive_l2"],
                    "not_finite": counts.get("not_finite", 0),
                }
            )
    return pd.DataFrame(rows).astype({"distortion": float, "adaptive_l2": float, "strength": float})


def flags(measurement: Measurement) -> dict[tuple[str, str], list[str]]:
    """Return the flags of each (attack, channel): reasons to doubt its numbers.

    They are the flags of the network behind the channel, the number of its predictions without finite logits,
    and missing gradients of the network or of the source.
    """
    record, found = measurement.record, {}
    for attack in record["config"]["kinds"]:
        for kind, channel, _ in record["config"]["channels"]:
            if f"{attack}/{channel}" not in measurement.done:
                continue
            network = channel if kind == "network" else record["config"]["source"]
            counts = measurement.done[f"{attack}/{channel}"]
            of_network = model_flags(record, network, not_finite=counts.get("not_finite", 0))
            found[attack, channel] = of_network + counts.get("flags", [])
    return found
