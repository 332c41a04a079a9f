"""Groups of models: trained models that differ only in the training seed are one model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from blrobust.errors import UserError
from blrobust.models.model_names import Target, file_stem, is_plain, split_seed
from blrobust.runs.record import Card


@dataclass(frozen=True)
class Group:
    """One model in tables and tests: a trained model, or several that differ only in the training seed.

    `name` is the label of the trained model, for several without the seed. `members` are the labels of the
    trained models, and `card` is the card of the first one with `name` as its label.
    """

    name: str
    members: tuple[str, ...]
    card: Card

    @property
    def key(self) -> str:
        """Text that identifies the group, from which its random numbers are made."""
        return "\n".join((self.name, *self.members))


def groups(cards: Mapping[str, Card]) -> dict[str, Group]:
    """Return the models of a run by name, in the order of their first members; `cards` are by label.

    Trained models are one group if their names differ only in the seed, also behind the same channels. Models
    of the user are never grouped, whatever their labels. Neither are seeds whose common name is the label of
    another model.
    """
    seeds: dict[str, list[str]] = {}  # labels by their label without the seed
    for label, card in cards.items():
        seeds.setdefault(_without_seed(card) or "", []).append(label)
    by_member = {
        label: (name, tuple(labels))
        for name, labels in seeds.items()
        if name and len(labels) > 1 and (name in labels or name not in cards)
        for label in labels
    }
    found: dict[str, Group] = {}
    for label, card in cards.items():
        name, members = by_member.get(label, (label, (label,)))
        found.setdefault(name, Group(name, members, replace(card, label=name)))
    return found


def group_of(label: str, among: Mapping[str, Group]) -> str:
    """Return the name of the group that has the member `label`, or `label` if none has it."""
    return next((group.name for group in among.values() if label in group.members), label)


def seed_counts(among: Iterable[Group]) -> dict[int, list[str]]:
    """Return the names of the groups with several seeds, by the number of seeds, ascending."""
    found: dict[int, list[str]] = {}
    for group in among:
        if len(group.members) > 1:
            found.setdefault(len(group.members), []).append(group.name)
    return dict(sorted(found.items()))


def _without_seed(card: Card) -> str | None:
    """Return the label of a model without its training seed; None for a model of the user.

    The label of a model of the suite is its name, and its checkpoint has the file name that follows from it.
    """
    if "=" in card.label or card.checkpoint is None or card.arch is None or card.dataset is None:
        return None
    try:
        target = Target.of(card.label)
    except UserError:  # the label of a checkpoint of the user
        return None
    stem = file_stem(target.model, arch=card.arch, dataset=card.dataset)
    if target.channels != card.channels or Path(card.checkpoint).stem != stem or not is_plain(target.model):
        return None
    return card.label.replace(target.model, split_seed(target.model)[0])
