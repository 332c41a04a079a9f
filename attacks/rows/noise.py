"""Random perturbations, which see nothing of the model; repeated ones keep what fools it."""

from blrobust.attacks.registry import Entry, Strength
from blrobust.attacks.rows import L2, LINF

FAR = Strength("L2", L2.axis, "0,1,2,4,8")
WIDE = Strength("Linf", LINF.axis, "0,8/255,16/255,32/255,64/255")

ROWS: dict[str, Entry] = {
    **{
        kind: Entry(
            attack=f"blrobust.attacks.fixed_noise:{name}NoiseAttack",
            strength=Strength("none", f"{width} of the noise on every pixel", "0:0.4"),
            keyed=True,
            family="noise",
            searches=False,
            queries="1",
            source="Dziedzic et al. 2019",
        )
        for kind, name, width in (
            ("gaussian", "Gaussian", "standard deviation"),
            ("uniform", "Uniform", "half-width"),
        )
    },
    "gaussian-l2": Entry(
        attack="foolbox.attacks:L2AdditiveGaussianNoiseAttack",
        strength=FAR,
        family="noise",
        searches=False,
        queries="1",
        source="Foolbox",
    ),
    "gaussian-l2-clipping": Entry(
        attack="blrobust.attacks.additive_noise:L2ClippingAwareAdditiveGaussianNoiseAttack",
        strength=FAR,
        family="noise",
        searches=False,
        queries="1",
        source="Rauber & Bethge 2020",
    ),
    "gaussian-l2-repeated": Entry(
        attack="foolbox.attacks:L2RepeatedAdditiveGaussianNoiseAttack",
        strength=FAR,
        parameters={"repeats": 50},
        paper={"repeats": 100},
        family="noise",
        queries="up to 51",
        source="Foolbox",
    ),
    "gaussian-l2-clipping-repeated": Entry(
        attack="blrobust.attacks.additive_noise:L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
        strength=FAR,
        parameters={"repeats": 50},
        paper={"repeats": 100},
        family="noise",
        queries="up to 51",
        source="Rauber & Bethge 2020",
    ),
    "uniform-l2": Entry(
        attack="foolbox.attacks:L2AdditiveUniformNoiseAttack",
        strength=FAR,
        family="noise",
        searches=False,
        queries="1",
        source="Foolbox",
    ),
    "uniform-l2-clipping": Entry(
        attack="blrobust.attacks.additive_noise:L2ClippingAwareAdditiveUniformNoiseAttack",
        strength=FAR,
        family="noise",
        searches=False,
        queries="1",
        source="Rauber & Bethge 2020",
    ),
    "uniform-l2-repeated": Entry(
        attack="foolbox.attacks:L2RepeatedAdditiveUniformNoiseAttack",
        strength=FAR,
        parameters={"repeats": 50},
        paper={"repeats": 100},
        family="noise",
        queries="up to 51",
        source="Foolbox",
    ),
    "uniform-l2-clipping-repeated": Entry(
        attack="blrobust.attacks.additive_noise:L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
        strength=FAR,
        parameters={"repeats": 50},
        paper={"repeats": 100},
        family="noise",
        queries="up to 51",
        source="Rauber & Bethge 2020",
    ),
    "uniform-linf": Entry(
        attack="blrobust.attacks.additive_noise:LinfAdditiveUniformNoiseAttack",
        strength=WIDE,
        family="noise",
        searches=False,
        queries="1",
        source="Foolbox",
    ),
    "uniform-linf-repeated": Entry(
        attack="blrobust.attacks.additive_noise:LinfRepeatedAdditiveUniformNoiseAttack",
        strength=WIDE,
        parameters={"repeats": 50},
        paper={"repeats": 100},
        family="noise",
        queries="up to 51",
        source="Foolbox",
    ),
}
