"""Suites: named sets of attacks, with the levels of each attack."""

# suite -> attack -> its levels as text, or None for the default levels
SUITES: dict[str, dict[str, str | None]] = {
    # The attacks of the paper on band-limited networks, at its levels where both use the same units.
    "paper": {
        "gaussian": None,
        "uniform-linf": "0,4/255,8/255,16/255,24/255,32/255,48/255,64/255,96/255,128/255",
        "pixel": None,
        "local-search": None,
        "fgsm": "0,0.001,0.002,0.004,0.008,0.016,0.032",
        "cw-l2": None,
        "contrast": "0:2.8:0.2",
        "gaussian-blur": None,
        "rotation": None,
        "translation": None,
    },
    # Some attacks of each family, in minutes on a laptop.
    "quick": {
        "gaussian": "0,0.1,0.2,0.4",
        "pixel": "0,10,50,200",
        "square-linf": "0,4/255,8/255",
        "fgsm": None,
        "pgd-linf": "0,1/255,4/255",
        "deepfool-l2": None,
    },
    # The attacks of AutoAttack, with FMN instead of FAB.
    "standard": {
        "apgd-ce": "0,8/255",
        "apgd-targeted": "0,8/255",
        "fmn-linf": "0,8/255",
        "square-linf": "0,8/255",
    },
}
