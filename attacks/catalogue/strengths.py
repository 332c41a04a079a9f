"""Units of levels (`Strength`), and names of level checks, that several attacks share."""

from blrobust.attacks.catalogue.attack_spec import Strength

LINF = Strength("Linf", "largest change of a pixel's channel", "0,1/255,2/255,4/255,8/255")
L2 = Strength("L2", "Euclidean length of the change", "0,0.1,0.25,0.5,1")
L1 = Strength("L1", "sum of the absolute changes", "0,2,4,8,12")
L0 = Strength("L0", "numbers (a channel of a pixel) that change", "0,5,10,25,50,100")
PIXELS = "L0 (pixels)"
PIXEL_COUNT = "blrobust.attacks.building_blocks.level_checks:check_pixel_count"
NOT_NEGATIVE = "blrobust.attacks.building_blocks.level_checks:check_not_negative"
