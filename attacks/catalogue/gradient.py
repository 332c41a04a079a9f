"""Catalogue of attacks that use the model's gradients."""

from blrobust.attacks.catalogue.attack_spec import AttackSpec
from blrobust.attacks.catalogue.strengths import L0, L1, L2, LINF

ROWS: dict[str, AttackSpec] = {
    "fgsm": AttackSpec(
        attack="foolbox.attacks:FGSM",
        strength=LINF,
        family="gradient",
        queries="1",
        source="Goodfellow et al. 2015",
    ),
    "fgm-l2": AttackSpec(
        attack="foolbox.attacks:FGM",
        strength=L2,
        family="gradient",
        queries="1",
        source="Goodfellow et al. 2015",
    ),
    "bim-linf": AttackSpec(
        attack="foolbox.attacks:LinfBasicIterativeAttack",
        strength=LINF,
        parameters={"steps": 10},
        family="gradient",
        queries="10",
        source="Kurakin et al. 2017",
    ),
    "bim-l2": AttackSpec(
        attack="foolbox.attacks:L2BasicIterativeAttack",
        strength=L2,
        parameters={"steps": 10},
        family="gradient",
        queries="10",
        source="Kurakin et al. 2017",
    ),
    "bim-l1": AttackSpec(
        attack="blrobust.attacks.gradient.sparse_l1:SparseL1Descent",
        strength=L1,
        parameters={"steps": 20},
        per_sample_seed=True,
        family="gradient",
        queries="20",
        source="Kurakin et al. 2017, with the sparse step of Tramer & Boneh 2019",
        revision=2,
    ),
    "pgd-linf": AttackSpec(
        attack="foolbox.attacks:LinfPGD",
        strength=LINF,
        parameters={"steps": 20, "rel_stepsize": 0.1},
        paper={"steps": 40, "rel_stepsize": 1 / 30, "restarts": 10},
        family="gradient",
        queries="20",
        source="Madry et al. 2018",
    ),
    "pgd-l2": AttackSpec(
        attack="foolbox.attacks:L2PGD",
        strength=L2,
        parameters={"steps": 20, "rel_stepsize": 0.1},
        paper={"steps": 50, "rel_stepsize": 0.025, "restarts": 10},
        family="gradient",
        queries="20",
        source="Madry et al. 2018",
    ),
    "pgd-l1": AttackSpec(
        attack="blrobust.attacks.gradient.sparse_l1:SparseL1Descent",
        strength=L1,
        parameters={"steps": 20, "rel_stepsize": 0.2, "random_start": True},
        paper={"steps": 50, "rel_stepsize": 0.1, "restarts": 10},
        per_sample_seed=True,
        family="gradient",
        queries="20",
        source="Madry et al. 2018, with the sparse step of Tramer & Boneh 2019",
        revision=2,
    ),
    "mifgsm": AttackSpec(
        attack="foolbox.attacks:MIFGSM",
        strength=LINF,
        parameters={"steps": 10},
        family="gradient",
        queries="10",
        source="Dong et al. 2018",
    ),
    "deepfool-l2": AttackSpec(
        attack="blrobust.attacks.gradient.deepfool:L2DeepFool",
        strength=L2,
        parameters={"steps": 50},
        family="gradient",
        queries="up to 50",
        source="Moosavi-Dezfooli et al. 2016",
    ),
    "deepfool-linf": AttackSpec(
        attack="blrobust.attacks.gradient.deepfool:LinfDeepFool",
        strength=LINF,
        parameters={"steps": 50},
        family="gradient",
        queries="up to 50",
        source="Moosavi-Dezfooli et al. 2016",
    ),
    "cw-l2": AttackSpec(
        attack="blrobust.attacks.gradient.carlini_wagner:CarliniWagner",
        strength=L2,
        parameters={"binary_search_steps": 5, "steps": 32, "stepsize": 0.005, "initial_const": 0.05},
        paper={"binary_search_steps": 9, "steps": 10000, "stepsize": 0.01, "initial_const": 0.001},
        family="gradient",
        queries="160",
        source="Carlini & Wagner 2017",
    ),
    "ead": AttackSpec(
        attack="blrobust.attacks.gradient.carlini_wagner:EAD",
        strength=L1,
        parameters={
            "binary_search_steps": 4,
            "steps": 40,
            "initial_stepsize": 0.03,
            "initial_const": 0.1,
            "abort_early": False,  # Foolbox stops a batch as a whole
        },
        paper={"binary_search_steps": 9, "steps": 10000, "initial_stepsize": 0.01, "initial_const": 0.001},
        family="gradient",
        queries="160",
        source="Chen et al. 2018",
    ),
    "ddn": AttackSpec(
        attack="foolbox.attacks:DDNAttack",
        strength=L2,
        parameters={"steps": 100},
        paper={"steps": 1000},
        family="gradient",
        queries="100",
        source="Rony et al. 2019",
    ),
    **{
        f"fmn-{norm}": AttackSpec(
            attack=f"blrobust.attacks.gradient.fmn:{name}FMN",
            strength=strength,
            parameters={"steps": 50},
            paper={"steps": 1000},
            family="gradient",
            queries="50",
            source="Pintor et al. 2021",
        )
        for norm, name, strength in (
            ("l0", "L0", L0),
            ("l1", "L1", L1),
            ("l2", "L2", L2),
            ("linf", "Linf", LINF),
        )
    },
    "newtonfool": AttackSpec(
        attack="blrobust.attacks.gradient.newtonfool:NewtonFool",
        strength=L2,
        parameters={"steps": 100},
        family="gradient",
        queries="up to 101, one search",
        source="Jang et al. 2017",
    ),
    "vat": AttackSpec(
        attack="blrobust.attacks.gradient.vat:VAT",
        strength=L2,
        parameters={"steps": 5},
        paper={"steps": 1},
        per_sample_seed=True,
        family="gradient",
        queries="6",
        source="Miyato et al. 2016",
    ),
    **{
        f"apgd-{loss}{suffix}": AttackSpec(
            attack="blrobust.attacks.gradient.apgd:APGD",
            strength=strength,
            parameters={"loss": loss, "norm": norm, "steps": 50},
            paper={"steps": 100, "restarts": 5},
            per_sample_seed=True,
            family="gradient",
            queries="up to 51",
            source="Croce & Hein 2020",
        )
        for loss in ("ce", "dlr")
        for suffix, norm, strength in (("", "linf", LINF), ("-l2", "l2", L2))
    },
    **{
        f"apgd-targeted{suffix}": AttackSpec(
            attack="blrobust.attacks.gradient.apgd:TargetedAPGD",
            strength=strength,
            parameters={"norm": norm, "targets": 3, "steps": 30},
            paper={"targets": 9, "steps": 100},
            per_sample_seed=True,
            family="gradient",
            queries="up to 94",
            source="Croce & Hein 2020",
        )
        for suffix, norm, strength in (("", "linf", LINF), ("-l2", "l2", L2))
    },
    **{
        f"autoattack-{norm}": AttackSpec(
            attack="blrobust.attacks.gradient.autoattack:AutoAttack",
            strength=strength,
            parameters={"norm": norm, "steps": 50, "targets": 3, "queries": 100},
            paper={"steps": 100, "targets": 9, "queries": 5000},
            family="gradient",
            gradient_free_member="square",
            queries="up to 640",
            source="Croce & Hein 2020, the package pyautoattack",
            revision=2,
        )
        for norm, strength in (("linf", LINF), ("l2", L2))
    },
    **{
        f"brendel-bethge-{suffix}": AttackSpec(
            attack=f"blrobust.attacks.decision.brendel_bethge:{name}BrendelBethgeAttack",
            strength=strength,
            # The solver's compilation adds half a minute. The usual 20 halvings of `lr` are meant for 1,000
            # steps.
            parameters={"steps": 30, "lr_num_decay": 3},
            paper={"steps": 1000, "lr_num_decay": 20},
            family="gradient",
            queries="about 60, one search",
            source="Brendel et al. 2019",
        )
        for suffix, name, strength in (("l2", "L2", L2), ("linf", "Linf", LINF))
    },
}
