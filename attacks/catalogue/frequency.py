"""Catalogue of attacks in chosen frequencies, such as the adaptive attack on a band-limited network."""

from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.catalogue.strengths import L2, LINF

ROWS: dict[str, AttackSpec] = {
    "fourier": AttackSpec(
        attack="blrobust.attacks.frequency.fourier:SingleFourierAttack",
        strength=LINF,
        parameters={"row": 8, "column": 8},
        family="decision",
        is_search=False,
        queries="1",
        source="Tsuzuku & Sato 2019",
    ),
    "fourier-worst": AttackSpec(
        attack="blrobust.attacks.frequency.fourier:WorstFourierAttack",
        strength=LINF,
        parameters={"step": 4},
        paper={"step": 1},
        family="decision",
        queries="up to 64",
        source="Tsuzuku & Sato 2019",
    ),
    **{
        f"band-pgd-{norm}": AttackSpec(
            attack="blrobust.attacks.frequency.band_pgd:BandPGD",
            strength=strength,
            # The model "fft85" drops 84 % of the coefficients: it keeps sqrt(1 - 0.84) = 0.4 of each axis.
            parameters={"norm": norm, "low": 0.0, "high": 0.4, "steps": 20, "rel_stepsize": 0.1},
            paper={"steps": 50, "rel_stepsize": 0.025, "restarts": 10},
            per_sample_seed=True,
            family="gradient",
            queries="20",
            source="Madry et al. 2018, in a band",
        )
        for norm, strength in (("linf", LINF), ("l2", L2))
    },
}
