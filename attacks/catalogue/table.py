"""Every attack in one table. A new attack is one row in the file of its family."""

from blrobust.attacks.catalogue import decision, frequency, gradient, noise, score
from blrobust.attacks.catalogue.entry import Entry

ATTACKS: dict[str, Entry] = {
    **noise.ROWS,
    **decision.ROWS,
    **score.ROWS,
    **gradient.ROWS,
    **frequency.ROWS,
}
