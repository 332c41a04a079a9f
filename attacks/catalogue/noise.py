"""Catalogue of random perturbations, which do not use the model.

Attacks with "repeated" in their name draw the noise again until it fools the model.
"""

from typing import Any

from blrobust.attacks.catalogue.attack_spec import AttackSpec, Strength
from blrobust.attacks.catalogue.strengths import L2, LINF

FAR = Strength("L2", L2.axis, "0,1,2,4,8")
WIDE = Strength("Linf", LINF.axis, "0,8/255,16/255,32/255,64/255")

FOOLBOX, OURS = "foolbox.attacks:", "blrobust.attacks.noise.additive_noise:"
ONCE: dict[str, Any] = {"is_search": False, "queries": "1"}
REPEATS: dict[str, Any] = {
    "parameters": {"repeats": 50},
    "paper": {"repeats": 100},
    "queries": "up to 51",
}

ROWS: dict[str, AttackSpec] = {
    **{
        kind: AttackSpec(
            attack=f"blrobust.attacks.noise.fixed_noise:{name}NoiseAttack",
            strength=Strength("none", f"{width} of the noise on every pixel", "0:0.4"),
            per_sample_seed=True,
            family="noise",
            is_search=False,
            queries="1",
            source="Dziedzic et al. 2019",
        )
        for kind, name, width in (
            ("gaussian", "Gaussian", "standard deviation"),
            ("uniform", "Uniform", "half-width"),
        )
    },
    **{
        f"{kind}-l2{'-clipping' * clipping}{'-repeated' * repeated}": AttackSpec(
            attack=(OURS if clipping else FOOLBOX)
            + f"L2{'ClippingAware' * clipping}{'Repeated' * repeated}Additive{name}NoiseAttack",
            strength=FAR,
            **(REPEATS if repeated else ONCE),
            family="noise",
            source="Rauber & Bethge 2020" if clipping else "Foolbox",
        )
        for kind, name in (("gaussian", "Gaussian"), ("uniform", "Uniform"))
        for repeated in (False, True)
        for clipping in (False, True)
    },
    **{
        f"uniform-linf{'-repeated' * repeated}": AttackSpec(
            attack=f"{OURS}Linf{'Repeated' * repeated}AdditiveUniformNoiseAttack",
            strength=WIDE,
            **(REPEATS if repeated else ONCE),
            family="noise",
            source="Foolbox",
        )
        for repeated in (False, True)
    },
}
