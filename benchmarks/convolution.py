"""The band-limited convolution beside its peers: time, memory, and their lower bounds.

    python benchmarks/convolution.py [--device cuda|cpu] [--goals] [--doc docs/performance.md]

A ratio below 1 is faster than torch's convolution of the same precision, in the faster of the layouts NCHW
and channels_last, measured in turns in the same process. `--goals` measures only the cases of the goals.
Writes convolution-DEVICE.json after every row, and at the end a .md beside it.

On a GPU every layer at every precision is measured in a process of its own. Several processes compile at the
same time, but only one measures. If the driver stops a process, only its layer is lost.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, replace
from fnmatch import fnmatch
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import goals
import report
import torch
from case import Case, Row, measure
from peers import PEERS
from shapes import GROUPS
from timing import PRECISIONS, copy_bandwidth, release

CPU_THREADS = 2


def main() -> None:
    """Parse the command line, measure, write the results and print the goals."""
    arguments = _arguments()
    device = torch.device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(CPU_THREADS)
    bandwidth = copy_bandwidth(device)
    release()
    where = report.facts(device) | {"copy": f"{bandwidth / 1e9:.0f} GB/s"}
    path = arguments.out / f"convolution-{device.type}.json"
    rows: dict[tuple[object, ...], Row] = {}
    if (arguments.add or arguments.missing) and path.exists():
        rows = {report.key(row): row for row in report.read(path)[1]}
    selected = goals.cases(device.type, arguments.rounds, bandwidth) if arguments.goals else None
    chosen = _cases(arguments, bandwidth) if selected is None else selected
    if arguments.missing:
        chosen = list(_without_time(chosen, rows))
    for row in _run(chosen, 0 if device.type == "cpu" else arguments.lanes):
        rows[report.key(row)] = row
        report.write(path, where, rows.values())
        figure = row.note if row.ms is None else f"{row.ms:.4g} ms, ratio {row.ratio} {row.note}"
        print(*report.key(row), figure, sep="  ", flush=True)
    everything = list(rows.values())
    lines = [report.headline(where), "", *report.tables(everything)]
    table = goals.table(device.type, everything)
    path.with_suffix(".md").write_text("\n".join([*lines, "", *table]) + "\n")
    print("\n".join(table))
    if arguments.doc:
        report.fill(arguments.doc, f"goals-{device.type}", [report.headline(where), "", *table])
        short = [report.headline(where), "", *report.summary(everything)]
        report.fill(arguments.doc, f"convolution-{device.type}", short)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=there, choices=["cuda", "cpu"])
    parser.add_argument("--goals", action="store_true", help="only what the table of goals needs")
    parser.add_argument("--groups", nargs="+", default=["*"], metavar="GLOB", help=", ".join(GROUPS))
    parser.add_argument("--peers", nargs="+", default=["*"], metavar="GLOB", help=", ".join(PEERS))
    parser.add_argument(
        "--precisions", nargs="+", choices=list(PRECISIONS), help="default: tf32; CPU: strict"
    )
    parser.add_argument("--batches", nargs="+", type=int, help="default: those of the groups; CPU: 32")
    parser.add_argument("--passes", nargs="+", default=["forward", "both"], choices=["forward", "both"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--lanes", type=int, default=8, help="processes side by side on a GPU; one measures")
    parser.add_argument("--add", action="store_true", help="keep what the file has and this run does not")
    parser.add_argument("--missing", action="store_true", help="--add, and only what the file has no time of")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--doc", type=Path, help="fill the tables of this document")
    return parser.parse_args()


def _cases(arguments: argparse.Namespace, bandwidth: float) -> list[Case]:
    """Return a case for each combination of the chosen layers, precisions, passes and batch sizes."""
    device = arguments.device
    peers = tuple(name for name in PEERS if any(fnmatch(name, glob) for glob in arguments.peers))
    return [
        Case(name, layer, precision, batch, group.cuts, peers, passes, device, bandwidth, arguments.rounds)
        for precision in arguments.precisions or (["strict"] if device == "cpu" else ["tf32"])
        for passes in arguments.passes
        for name, group in GROUPS.items()
        if any(fnmatch(name, glob) for glob in arguments.groups)
        for batch in arguments.batches or ([32] if device == "cpu" else [group.batch])
        for layer in group.layers
    ]


def _without_time(cases: list[Case], rows: dict[tuple[object, ...], Row]) -> Iterator[Case]:
    """Yield the cases again, one for each cut, with only those peers for which `rows` have no time."""
    for case in cases:
        at = (case.group, str(case.layer), case.precision, case.batch, case.passes)
        for cut in case.cuts:
            found = {name: rows.get((*at, *astuple(cut), name)) for name in case.peers}
            peers = tuple(name for name, row in found.items() if row is None or row.ms is None)
            if peers:
                yield replace(case, cuts=(cut,), peers=peers)


def _run(cases: list[Case], lanes: int) -> Iterator[Row]:
    """Yield each row as soon as it is measured, in this process, or in up to `lanes` others if it is not 0.

    Cases of host times come last, when no other process runs.
    """
    if not lanes:
        yield from chain.from_iterable(map(measure, cases))
        return
    for quiet in (False, True):
        chosen = [case for case in cases if (case.passes == "launch") == quiet]
        found: SimpleQueue[Row | None] = SimpleQueue()  # None ends a case
        with ThreadPoolExecutor(1 if quiet else lanes) as pool:
            running = [pool.submit(_apart, case, found.put) for case in chosen]
            for _ in chosen:
                yield from iter(found.get, None)
            for future in running:
                future.result()


def _apart(case: Case, put: Callable[[Row | None], None]) -> None:
    """Measure a case in a process of its own: call `put` with each row, and with None at the end.

    If that process dies, there is one more row, which notes the exit code.
    """
    try:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(case, sender))
        process.start()
        sender.close()
        with suppress(EOFError):
            while True:
                put(receiver.recv())
        process.join()
        if process.exitcode:
            at = (case.group, str(case.layer), case.precision, case.batch, case.passes)
            put(Row(*at, 0.0, "", "the rest", note=f"the process ended with {process.exitcode}"))
    finally:
        put(None)


def _send(case: Case, sender: Connection) -> None:
    for row in measure(case):
        sender.send(row)


if __name__ == "__main__":
    main()
