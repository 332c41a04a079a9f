"""Steps of several models: one after the other on a CPU, and one CUDA graph with a stream each on a GPU.

Launching a network of this size takes longer than computing it. So on a GPU one step of all models, with
their optimizers, is one graph.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from blrobust.training.processes import Processes
from blrobust.training.trainee import Trainee

WARM_UP_STEPS = 3  # run before a CUDA graph is captured, as CUDA requires

Batch = tuple[Tensor, Tensor]  # images (m, C, H, W) and labels (m,)
Groups = Sequence[Sequence[Trainee]]  # the models of a group get the same batches


def by_batches(trainees: Sequence[Trainee]) -> list[list[Trainee]]:
    """Return the models in groups that get the same batches: those with the same seed and augmentation."""
    groups: dict[tuple[int, ...], list[Trainee]] = {}
    for trainee in trainees:
        recipe = trainee.recipe
        groups.setdefault((recipe.seed, recipe.crop, recipe.cutout), []).append(trainee)
    return list(groups.values())


def stepper(groups: Groups, example: Batch, processes: Processes) -> Callable[[Sequence[Batch]], None]:
    """Return a function that trains each model for one step, on a batch for each group.

    All later batches must have the shapes of `example` and be on its device. The gradients are averaged over
    `processes`.
    """
    scale = 255 if example[0].dtype == torch.uint8 else 1
    if example[0].device.type == "cuda":
        return _captured(groups, example, scale, processes)

    def step(batches: Sequence[Batch]) -> None:
        for group, (images, labels) in zip(groups, batches, strict=True):
            pixels = (images.float() / scale).contiguous(memory_format=torch.channels_last)
            for trainee in group:
                trainee.compute_gradients(pixels, labels)
                processes.average(trainee.gradients())
                trainee.update()

    return step


def _captured(
    groups: Groups, example: Batch, scale: int, processes: Processes
) -> Callable[[Sequence[Batch]], None]:
    """Return the function of `stepper` for CUDA."""
    images, labels = example
    inputs = []
    for _ in groups:
        pixels = torch.empty(images.shape, device=images.device).contiguous(memory_format=torch.channels_last)
        inputs.append((pixels.copy_(images).div_(scale), labels.clone()))
    jobs = [
        (trainee, *batch, torch.cuda.Stream())  # type: ignore[no-untyped-call]
        for group, batch in zip(groups, inputs, strict=True)
        for trainee in group
    ]

    def step(jobs: Sequence[tuple[Trainee, Tensor, Tensor, torch.cuda.Stream]]) -> None:
        root = torch.cuda.current_stream()
        for trainee, pixels, targets, stream in jobs:
            stream.wait_stream(root)
            with torch.cuda.stream(stream):
                trainee.compute_gradients(pixels, targets)
        for trainee, _, _, stream in jobs:
            if processes.count > 1:  # all collectives on one stream, in one order
                root.wait_stream(stream)
                processes.average(trainee.gradients())
                stream.wait_stream(root)
            with torch.cuda.stream(stream):
                trainee.update()
        for *_, stream in jobs:
            root.wait_stream(stream)

    for job in jobs:  # one after the other: cuDNN measures its algorithms
        before = {name: t.clone() for name, t in job[0].state().items()}
        for _ in range(WARM_UP_STEPS):
            step([job])
        job[0].restore(before)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # The thread of NCCL that watches collectives may call CUDA in the meantime.
    with torch.cuda.graph(graph, capture_error_mode="global" if processes.count == 1 else "thread_local"):
        step(jobs)

    def replay(batches: Sequence[Batch]) -> None:
        for (pixels, targets), (images, labels) in zip(inputs, batches, strict=True):
            pixels.copy_(images).div_(scale)
            targets.copy_(labels)
        graph.replay()

    return replay
