"""Catalogue of attacks that use the model's logits."""

from blrobust.attacks.catalogue.attack_spec import AttackSpec, Strength
from blrobust.attacks.catalogue.strengths import L2, LINF, PIXEL_COUNT

ROWS: dict[str, AttackSpec] = {
    "square-linf": AttackSpec(
        attack="blrobust.attacks.score.square:SquareLinfAttack",
        strength=LINF,
        parameters={"queries": 100, "share": 0.8},
        paper={"queries": 10_000, "share": 0.05},
        per_sample_seed=True,
        family="score",
        queries="up to 100",
        source="Andriushchenko et al. 2020",
    ),
    "square-l2": AttackSpec(
        attack="blrobust.attacks.score.square:SquareL2Attack",
        strength=L2,
        parameters={"queries": 100, "share": 0.8},
        paper={"queries": 10_000, "share": 0.1},
        per_sample_seed=True,
        family="score",
        queries="up to 100",
        source="Andriushchenko et al. 2020",
    ),
    "simba": AttackSpec(
        attack="blrobust.attacks.score.simba:SimBAAttack",
        strength=Strength("L2", L2.axis, "0,0.5,1,2,4"),
        parameters={"step": 0.2, "queries": 200},
        paper={"queries": 6145},  # 2 * 3 * 32 * 32 + 1: each value up and down, and the clean image
        per_sample_seed=True,
        family="score",
        queries="up to 200, one search",
        source="Guo et al. 2019",
    ),
    "simba-dct": AttackSpec(
        attack="blrobust.attacks.score.simba:SimBADCTAttack",
        strength=Strength("L2", L2.axis, "0,0.5,1,2,4"),
        parameters={"step": 0.2, "queries": 200, "frequencies": 8},
        paper={"queries": 1177, "frequencies": 14},
        per_sample_seed=True,
        family="score",
        queries="up to 200, one search",
        source="Guo et al. 2019",
    ),
    "local-search": AttackSpec(
        attack="blrobust.attacks.score.local_search:LocalSearchAttack",
        strength=Strength(
            "L0 (pixels) per round",
            "number of pixels moved per round",
            "0,5,10,20",
            PIXEL_COUNT,
        ),
        parameters={"rounds": 5, "candidates": 32},
        paper={"rounds": 150, "candidates": 128},
        per_sample_seed=True,
        family="score",
        queries="up to 165",
        source="Narodytska & Kasiviswanathan 2016",
    ),
    "nes": AttackSpec(
        attack="blrobust.attacks.score.nes:NESAttack",
        strength=LINF,
        parameters={"steps": 10, "directions": 20, "sigma": 0.01, "stepsize": 0.2},
        paper={"steps": 200, "directions": 50, "sigma": 0.001},
        per_sample_seed=True,
        family="score",
        queries="up to 210",
        source="Ilyas et al. 2018",
    ),
    "gen": AttackSpec(
        attack="blrobust.attacks.score.genetic:GeneticAttack",
        strength=Strength("Linf", LINF.axis, "0,4/255,8/255,16/255"),
        parameters={"generations": 20, "population": 6},
        paper={"generations": 20_000},
        per_sample_seed=True,
        family="score",
        targeted=True,
        queries="up to 101",
        source="Alzantot et al. 2019",
    ),
}
