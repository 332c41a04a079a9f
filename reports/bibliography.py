"""BibTeX of the publications in which the noise and the attacks of a report were defined."""

import re
from collections.abc import Iterable
from importlib.resources import files

from blrobust.attacks.catalogue.table import ATTACKS

# Words in `AttackSpec.source` -> keys in reference/attacks.bib.
KEYS = {
    "Foolbox": ("rauber2017foolbox", "rauber2020foolbox"),
    "Alzantot et al. 2019": ("alzantot2019genattack",),
    "Andriushchenko et al. 2020": ("andriushchenko2020square",),
    "Brendel et al. 2018": ("brendel2018decision",),
    "Brendel et al. 2019": ("brendel2019accurate",),
    "Carlini & Wagner 2017": ("carlini2017towards",),
    "Chen et al. 2018": ("chen2018ead",),
    "Chen et al. 2020": ("chen2020hopskipjump",),
    "Croce & Hein 2020": ("croce2020reliable",),
    "Dong et al. 2018": ("dong2018boosting",),
    "Dziedzic et al. 2019": ("dziedzic2019band",),
    "Engstrom et al. 2019": ("engstrom2019exploring",),
    "Goodfellow et al. 2015": ("goodfellow2015explaining",),
    "Guo et al. 2019": ("guo2019simple",),
    "Hosseini et al. 2017": ("hosseini2017limitation",),
    "Ilyas et al. 2018": ("ilyas2018black",),
    "Jang et al. 2017": ("jang2017objective",),
    "Kurakin et al. 2017": ("kurakin2017adversarial",),
    "Madry et al. 2018": ("madry2018towards",),
    "Miyato et al. 2016": ("miyato2016distributional",),
    "Moosavi-Dezfooli et al. 2016": ("moosavi2016deepfool",),
    "Narodytska & Kasiviswanathan 2016": ("narodytska2016simple",),
    "Narodytska & Kasiviswanathan 2017": ("narodytska2017simple",),
    "Pintor et al. 2021": ("pintor2021fast",),
    "Rauber & Bethge 2020": ("rauber2020clipping",),
    "Rony et al. 2019": ("rony2019decoupling",),
    "Schott et al. 2019": ("schott2019towards",),
    "Tramer & Boneh 2019": ("tramer2019adversarial",),
    "Tsuzuku & Sato 2019": ("tsuzuku2019structural",),
}
ENTRY = re.compile(r"^@\w+\{(\S+),$.*?^\}$", re.DOTALL | re.MULTILINE)


def bibtex(kinds: Iterable[str]) -> str:
    """Return the BibTeX entries of the sources of these kinds of noise and attacks, sorted by their keys.

    The text is empty if no kind is in the catalogue of attacks.
    """
    keys = {key for kind in kinds if kind in ATTACKS for key in _keys(ATTACKS[kind].source)}
    text = (files("blrobust.reports") / "reference" / "attacks.bib").read_text("utf-8")
    return "".join(f"{entry[0]}\n\n" for entry in ENTRY.finditer(text) if entry[1] in keys).rstrip("\n")


def _keys(source: str) -> list[str]:
    return [key for words, keys in KEYS.items() if words in source for key in keys]
