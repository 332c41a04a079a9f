"""All attacks in one table. A new attack is one row in the file of its family."""

from blrobust.attacks.catalogue import decision, frequency, gradient, noise, score
from blrobust.attacks.catalogue.attack_spec import AttackSpec

ATTACKS: dict[str, AttackSpec] = {
    **noise.ROWS,
    **decision.ROWS,
    **score.ROWS,
    **gradient.ROWS,
    **frequency.ROWS,
}
