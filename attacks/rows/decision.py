"""Attacks that see the model's answer alone, or not even that."""

from blrobust.attacks.registry import Entry, Strength

ROWS: dict[str, Entry] = {
    "pixel": Entry(
        attack="blrobust.attacks.pixel:PixelAttack",
        strength=Strength(
            "L0 (pixels)",
            "number of pixels set to the minimum or maximum",
            "0:1000:50",
            "blrobust.attacks.pixel:check_count",
        ),
        keyed=True,
        family="decision",
        searches=False,
        queries="1",
        source="Dziedzic et al. 2019",
    ),
}
