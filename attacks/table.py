"""Every attack in one table, and the suites. A new attack is one row in the file of its family."""

from blrobust.attacks.registry import Entry
from blrobust.attacks.rows import decision, frequency, gradient, noise, score

ATTACKS: dict[str, Entry] = {
    **noise.ROWS,
    **decision.ROWS,
    **score.ROWS,
    **gradient.ROWS,
    **frequency.ROWS,
}

# kind -> its grid, None for the default one
SUITES: dict[str, dict[str, str | None]] = {
    "paper": {"pixel": None, "fgsm": "0,0.001,0.002,0.004,0.008,0.016,0.032"},
    "quick": {"pixel": "0,10,50,200", "fgsm": None, "pgd-linf": None, "deepfool-l2": None},
    "standard": {"pgd-linf": "0,8/255"},
}
