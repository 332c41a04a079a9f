"""A sweep: every model at every level and draw, into a run folder, to a table and a report."""

import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from blrobust import __version__, pictures, terminal
from blrobust.database import Outcomes
from blrobust.datasets import Dataset
from blrobust.device import describe, full_precision
from blrobust.draws import Cache
from blrobust.errors import UserError
from blrobust.perturbation import BLOCK, Perturbation, blocks
from blrobust.provenance import digest, new_record, now
from blrobust.store import REPORT, Run
from blrobust.zoo import Model

BATCH_SIZE = 200  # samples in flight
RUNS = Path("runs")


def execute(
    perturbation: Perturbation,
    *,
    command: str,
    models: Sequence[Model],
    dataset: Dataset,
    levels: Sequence[float],
    draws: int,
    seed: int,
    arch: str,
    device: torch.device,
    batch_size: int = BATCH_SIZE,
    out: Path | None = None,
    open_report: bool = False,
) -> Path:
    """Do what is not done yet of a sweep, write results.csv and report.html, print the table.

    The models are on ``device``. ``out`` is the run folder, ``runs/<hash>`` by default; a finished
    run there is left as it is and only printed. Returns the folder. Raises ``UserError`` for
    one that cannot hold this run.
    """
    from blrobust import results

    config = {
        "version": __version__,
        "command": command,
        "kind": perturbation.kind,
        "space": perturbation.space,
        "levels": list(levels),
        "draws": draws,
        "seed": seed,
        "arch": arch,
        "models": [{"label": model.label, "sha256": model.card["sha256"]} for model in models],
        "dataset": {"name": dataset.name, "checksum": dataset.checksum, "n": len(dataset)},
        "device": device.type,
    }
    record = new_record(
        config,
        dataset=dataset,
        cards=[model.card for model in models],
        device=describe(device),
        batch_size=batch_size,
    )
    path = RUNS / digest(config)[:12] if out is None else out
    labels = dataset.labels.numpy().astype(np.int16)
    with Run.create_or_resume(path, record, labels) as run:
        if not run.finished:
            with full_precision():
                run_cells(run, perturbation, models, dataset, device=device, batch_size=batch_size)
            run.add_pictures(pictures.take(run, perturbation, dataset, device))
            run.provenance["finished"] = now()  # the report shows it; the disk gets it last
            from blrobust.reports import page  # seaborn takes a second to import

            results.write_csv(run)
            page.render([run], path / REPORT)
            run.finish()
        terminal.print_summary(run, results.summary(run))
    click.echo(f"report: {path / REPORT}")
    if open_report and click.launch(str(path / REPORT)):
        click.echo("no program was found that opens it", err=True)
    return path


def run_cells(
    run: Run,
    perturbation: Perturbation,
    models: Sequence[Model],
    dataset: Dataset,
    *,
    device: torch.device,
    batch_size: int,
) -> None:
    """Measure the cells that are not done yet, draw by draw, and commit each as it finishes.

    Draws are the outer loop, so that all models and levels share one draw in memory. Raises
    ``UserError`` where the device runs out of memory.
    """
    kind, done = perturbation.kind, run.done()
    cells = [
        (model, level, draw) for draw in range(run.draws) for model in models for level in run.levels(kind)
    ]
    todo = [cell for cell in cells if (cell[0].label, kind, *cell[1:]) not in done]
    measure = _Measure(perturbation, dataset, device=device, batch_size=batch_size)
    images = len(cells) * len(dataset)
    with terminal.Meter(images=images, done=images - len(todo) * len(dataset)) as meter:
        for model, level, draw in todo:
            meter.begin(model.label if run.draws == 1 else f"{model.label}, draw {draw}")
            start = time.perf_counter()
            try:
                outcomes = measure(model, level=level, draw=draw, meter=meter)
            except torch.OutOfMemoryError as error:
                raise UserError(f"{device} has too little free memory: {error}") from error
            except UserError as error:
                raise UserError(f"model {model.label!r} at {kind} {level:g}: {error}") from error
            run.add(
                (model.label, kind, level, draw),
                outcomes,
                forwards=int(outcomes["forwards"].sum()) if "forwards" in outcomes else len(dataset),
                backwards=int(outcomes["backwards"].sum()) if "backwards" in outcomes else 0,
                seconds=time.perf_counter() - start,
            )


class _Measure:
    """Measures one cell: all blocks of the data set, ``batch_size`` samples in flight."""

    def __init__(
        self, perturbation: Perturbation, dataset: Dataset, *, device: torch.device, batch_size: int
    ) -> None:
        def pixels(_: int, samples: range) -> Tensor:
            return dataset.pixels(slice(samples.start, samples.stop), device)

        self._perturbation = perturbation
        self._pixels = Cache(pixels)
        self._labels = dataset.labels.to(device)
        self._blocks = list(blocks(len(dataset)))
        self._flight = -(-batch_size // BLOCK)  # blocks

    def __call__(self, model: Model, *, level: float, draw: int, meter: terminal.Meter) -> Outcomes:
        fetched = []
        for first in range(0, len(self._blocks), self._flight):
            answers = []
            for samples, skip in self._blocks[first : first + self._flight]:
                answer = self._perturbation(
                    model.module,
                    self._pixels.block(0, samples),
                    self._labels[samples.start : samples.stop],
                    level=level,
                    draw=draw,
                    samples=samples,
                )
                answers.append({key: values[skip:] for key, values in answer.items()})
            # The copy to the CPU waits for the device: once per flight, not once per block.
            fetched.append({key: torch.cat([a[key] for a in answers]).cpu().numpy() for key in answers[0]})
            meter.advance(len(fetched[-1]["prediction"]))
        return {key: np.concatenate([f[key] for f in fetched]) for key in fetched[0]}
