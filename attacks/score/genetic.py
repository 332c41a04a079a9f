"""GenAttack: selection, crossover and mutation move a population of perturbations towards a target class."""

import torch
from foolbox.criteria import TargetedMisclassification
from foolbox.distances import linf
from torch import Tensor

from blrobust.attacks.building_blocks.attack import EpsilonAttack
from blrobust.attacks.building_blocks.early_stopping import should_check
from blrobust.attacks.building_blocks.losses import log_odds
from blrobust.attacks.building_blocks.parameters import check, check_above_0, check_counts
from blrobust.attacks.building_blocks.per_sample import PerSampleSeed
from blrobust.attacks.building_blocks.problem import Problem
from blrobust.attacks.score.queries import batched_logits
from blrobust.perturbations import random_numbers

PATIENCE = 100  # generations without a better elite before mutation becomes rarer and smaller


class GeneticAttack(PerSampleSeed, EpsilonAttack):
    """Evolves linf perturbations until one is classified as the target (Alzantot et al. 2019, Algorithm 1).

    The fitness of a perturbation is the log-odds of the target class t, ln p_t - ln sum_{j != t} p_j. A
    generation consists of the fittest member of the generation before and of children of two parents each.
    Parents are drawn with the probabilities P = softmax(fitness / `temperature`). A child takes each value
    from its first parent with the probability P1 / (P1 + P2), otherwise from its second parent, where P1 and
    P2 are the probabilities of the two parents. Then, with the probability rho for each value, a random
    number from [-alpha * epsilon, alpha * epsilon] is added.

    A plateau is 100 generations without a fitter member. After c plateaus, rho = max(`probability`, 0.5 *
    0.9^c) and alpha = max(`size`, 0.4 * 0.9^c) (Section 4.2). The result is the fittest image of the last
    generation, or of the first generation that reached the target.

    Foolbox's GenAttack draws its random numbers sample by sample on the CPU, queries the fittest member
    again, and computes log(sum_j exp(z_j) - z_t) of the logits z instead of log(sum_j exp(z_j) - exp(z_t)),
    so its fitness is often NaN. This class needs at most `population` + (`generations` - 1) * (`population` -
    1) queries per sample. Raises `ValueError` for a parameter that is not legal.
    """

    criteria = (TargetedMisclassification,)
    distance = linf
    stream = random_numbers.GENETIC

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
        check_counts(generations=generations)
        check_counts(population=population, least=2)
        check("probability", probability, "numbers from 0 to 1", accepted=0 <= probability <= 1)
        check_above_0(size=size, temperature=temperature)
        self.generations = generations
        self.population = population
        self.probability = probability
        self.size = size
        self.temperature = temperature
        self.seed = seed

    @torch.no_grad()
    def _search(self, problem: Problem, epsilon: float) -> Tensor:
        images = problem.images
        members, values = self.population, images[0].numel()
        # The numbers of a sample choose the parents of each child, and for each value the parent that it
        # comes from, whether it mutates, and by how much.
        parents = 2 * (members - 1)
        own = self._own_numbers(problem, parents + 3 * values)
        shared = self._shared_numbers(problem, members * values, step=0)
        start = random_numbers.mixed(own[:, None, -values:], shared.view(members, values))
        pool = ((2 * start - 1) * epsilon).view(len(images), members, *images.shape[1:])
        rows = torch.arange(len(images), device=images.device)
        fitness, elite = self._evaluate(problem, pool, rows)
        evolving = ~elite.isposinf()
        stalled = torch.zeros_like(elite)
        plateaus = torch.zeros_like(elite)
        for generation in range(1, self.generations):
            if should_check(generation - 1, rows):
                rows = evolving.nonzero()[:, 0]
                if len(rows) == 0:
                    break
            old, fit, live = pool[rows], fitness[rows], evolving[rows]
            count = parents + 3 * (members - 1) * values
            shared = self._shared_numbers(problem, count, step=generation)
            young = self._children(old, fit, own[rows], shared, plateaus[rows], epsilon)
            young_fit, best = self._evaluate(problem, young, rows)
            # The fittest moves to the front; the children follow.
            row, first = torch.arange(len(rows), device=images.device), fit.argmax(dim=1)
            grown = torch.cat([old[row, first][:, None], young], dim=1)
            scores = torch.cat([fit[row, first][:, None], young_fit], dim=1)
            pool[rows] = torch.where(live.view(-1, 1, 1, 1, 1), grown, old)
            fitness[rows] = torch.where(live[:, None], scores, fit)
            better = best > elite[rows]
            waited = torch.where(better, 0, stalled[rows] + 1)
            plateaus[rows] += (waited >= PATIENCE).float()
            stalled[rows] = waited % PATIENCE
            elite[rows] = torch.where(live & better, best, elite[rows])
            evolving[rows] = live & ~best.isposinf()
        row = torch.arange(len(images), device=images.device)
        return problem.clip(images + pool[row, fitness.argmax(dim=1)])

    def _evaluate(self, problem: Problem, pool: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fitness of perturbations (n, members), and the largest fitness of each sample (n,).

        The members `pool[i]` of `pool` (n, members, C, H, W) are perturbations of sample `rows[i]`. The
        fitness of a member that fools the model is infinite.
        """
        members = pool.shape[1]
        repeated = rows.repeat_interleave(members)
        candidates = problem.clip(problem.images[rows, None] + pool).flatten(0, 1)
        logits = batched_logits(problem, candidates)
        fitness = log_odds(logits, problem.classes[repeated])
        fitness = fitness.masked_fill(problem.fooled(logits, repeated), torch.inf).view(-1, members)
        return fitness, fitness.amax(dim=1)

    def _children(
        self, pool: Tensor, fitness: Tensor, own: Tensor, shared: Tensor, plateaus: Tensor, epsilon: float
    ) -> Tensor:
        """Return the children of the perturbations `pool`, (n, children, C, H, W).

        `fitness` (n, members) is the fitness of `pool`, and `plateaus` (n,) the number of plateaus so far.
        `own`, of shape (n, 2 * children + 3 * C * H * W), are uniform random numbers of each sample.
        `shared`, of shape (2 * children + 3 * children * C * H * W,), are those that all samples share.
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
