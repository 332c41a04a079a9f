"""GenAttack: a population of perturbations that is selected, crossed and mutated towards a class."""

from typing import Any, TypeVar

import torch
from eagerpy.astensor import astensor
from foolbox.attacks.base import FixedEpsilonAttack, raise_if_kwargs
from foolbox.distances import linf
from foolbox.models.base import Model
from torch import Tensor

from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.problem import call
from blrobust.attacks.score.goal import Goal, ask, check_inputs
from blrobust.perturbations import random_numbers

T = TypeVar("T")

PATIENCE = 100  # generations without a better elite before mutation becomes rarer and smaller


class GeneticAttack(FixedEpsilonAttack):
    """Evolve linf perturbations until one is classified as the target (Alzantot et al. 2019, Algorithm 1).

    The fitness is ln p_t - ln sum_{j != t} p_j. A generation keeps the fittest member; each other one
    is a child of two parents drawn by softmax(fitness / ``temperature``), takes each value from the
    first with probability P1 / (P1 + P2), and changes each value with probability rho by a number
    uniform in +-alpha epsilon. After c plateaus of 100 generations rho = max(``probability``,
    0.5 0.9^c) and alpha = max(``size``, 0.4 0.9^c) (Section 4.2).

    Foolbox's class of this name draws sample by sample on the CPU, asks about the elite again, and
    takes the logarithm of sums of exponentials less a logit, which is NaN for ordinary logits. The
    queries here are ``population`` + (``generations`` - 1) (``population`` - 1) a sample.
    """

    distance = linf

    def __init__(
        self,
        *,
        generations: int = 20,
        population: int = 6,
        probability: float = 0.1,
        size: float = 0.15,
        temperature: float = 0.3,
        seed: int = 0,
    ) -> None:
        for name, count, least in (("generations", generations, 1), ("population", population, 2)):
            if count < least:
                raise ValueError(f"{name} {count}; legal: {least} or more")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability {probability:g}; legal: 0 to 1")
        for name, value in (("size", size), ("temperature", temperature)):
            if not value > 0:
                raise ValueError(f"{name} {value:g}; legal: above 0")
        self.generations = generations
        self.population = population
        self.probability = probability
        self.size = size
        self.temperature = temperature
        self.seed = seed
        self._numbers = random_numbers.UniformCache(random_numbers.GENETIC)

    def __repr__(self) -> str:
        return call(self)

    @torch.no_grad()
    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        epsilon: float,
        draw: int = 0,
        samples: range | tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> T:
        """The fittest images (batch, C, H, W) of the last generation, or of the first with the target.

        `samples` are the ids of the images in the data set (default 0..batch - 1); they and `draw`
        choose the randomness. Raises ``ValueError`` for inputs out of bounds and for a criterion
        other than targeted misclassification.
        """
        raise_if_kwargs(kwargs)
        images, restore_type = check_inputs(inputs, model)
        goal = Goal.of(criterion, images)
        if not goal.targeted:
            raise ValueError("the genetic attack needs a target: legal is TargetedMisclassification")
        sample_ids = range(len(images)) if samples is None else samples
        members, values = self.population, images[0].numel()
        # A sample's own numbers: the parents of each child, and for each value whose it is, whether it
        # mutates, and by how much.
        parents = 2 * (members - 1)
        own = self._numbers(
            parents + 3 * values, seed=self.seed, draw=draw, samples=sample_ids, device=images.device
        )

        def shared(count: int, generation: int) -> Tensor:
            return random_numbers.common(
                count,
                stream=random_numbers.GENETIC,
                seed=self.seed,
                draw=draw,
                step=generation,
                device=images.device,
            )

        start = random_numbers.mixed(
            own[:, None, -values:], shared(members * values, 0).view(members, values)
        )
        pool = ((2 * start - 1) * epsilon).view(len(images), members, *images.shape[1:])
        rows = torch.arange(len(images), device=images.device)
        fitness, elite = self._judged(model, images, goal, pool)
        evolving = ~elite.isposinf()
        stalled = torch.zeros_like(elite)
        plateaus = torch.zeros_like(elite)
        for generation in range(1, self.generations):
            if should_check(generation - 1, rows):
                rows = evolving.nonzero()[:, 0]
                if len(rows) == 0:
                    break
            old, fit, live = pool[rows], fitness[rows], evolving[rows]
            numbers = shared(parents + 3 * (members - 1) * values, generation)
            young = self._children(old, fit, own[rows], numbers, plateaus[rows], epsilon)
            judged, best = self._judged(model, images[rows], goal[rows], young)
            # The fittest moves to the front; the children follow.
            row, first = torch.arange(len(rows), device=images.device), fit.argmax(dim=1)
            grown = torch.cat([old[row, first][:, None], young], dim=1)
            scores = torch.cat([fit[row, first][:, None], judged], dim=1)
            pool[rows] = torch.where(live.view(-1, 1, 1, 1, 1), grown, old)
            fitness[rows] = torch.where(live[:, None], scores, fit)
            better = best > elite[rows]
            waited = torch.where(better, 0, stalled[rows] + 1)
            plateaus[rows] += (waited >= PATIENCE).float()
            stalled[rows] = waited % PATIENCE
            elite[rows] = torch.where(live & better, best, elite[rows])
            evolving[rows] = live & ~best.isposinf()
        row = torch.arange(len(images), device=images.device)
        found = (images + pool[row, fitness.argmax(dim=1)]).clamp(*model.bounds)
        return restore_type(astensor(found))  # type: ignore[no-any-return]

    def _judged(self, model: Model, images: Tensor, goal: Goal, pool: Tensor) -> tuple[Tensor, Tensor]:
        """Fitness (n, members), infinite where a member has reached the target, and its maximum (n,)."""
        members = pool.shape[1]
        asked = (images[:, None] + pool).clamp(*model.bounds).flatten(0, 1)
        logits = ask(model, asked)
        goals = Goal(goal.classes.repeat_interleave(members), goal.targeted)
        fitness = -goals.log_odds(logits)
        fitness = fitness.masked_fill(goals.reached(logits), torch.inf).view(-1, members)
        return fitness, fitness.amax(dim=1)

    def _children(
        self, pool: Tensor, fitness: Tensor, own: Tensor, shared: Tensor, plateaus: Tensor, epsilon: float
    ) -> Tensor:
        """The next generation without its elite (n, children, C, H, W).

        From uniform numbers of the samples ``own`` (n, 2 children + 3 C H W) and ``shared``
        (2 children + 3 children C H W,).
        """
        children = self.population - 1
        shape = (len(pool), children, *pool.shape[2:])
        chances = (fitness / self.temperature).softmax(dim=1)
        drawn = random_numbers.mixed(own[:, : 2 * children], shared[: 2 * children])
        parents = (drawn[:, :, None] >= chances.cumsum(dim=1)[:, None]).sum(dim=2)
        parents = parents.clamp(max=self.population - 1)  # a sum of chances may round to less than 1
        weight = chances.gather(1, parents)
        first, second = weight[:, :children], weight[:, children:]
        row = torch.arange(len(pool), device=pool.device)[:, None]
        mother, father = pool[row, parents[:, :children]], pool[row, parents[:, children:]]
        share = (first / (first + second)).view(-1, children, 1, 1, 1)
        crossed, mutated, change = (
            random_numbers.mixed(each[:, None], part.view(children, -1)).view(shape)
            for each, part in zip(
                own[:, 2 * children :].chunk(3, dim=1), shared[2 * children :].chunk(3), strict=True
            )
        )
        child = torch.where(crossed < share, mother, father)
        fading = (0.9**plateaus).view(-1, 1, 1, 1, 1)
        rate = (0.5 * fading).clamp(min=self.probability)
        size = (0.4 * fading).clamp(min=self.size) * epsilon
        mutant = child.addcmul(change.mul_(2).sub_(1), size)
        return torch.where(mutated < rate, mutant, child).clamp_(-epsilon, epsilon)
