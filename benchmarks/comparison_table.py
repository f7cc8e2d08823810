"""The tables of benchmarks/comparison.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from modules.errors import UserError
from modules.evaluation.bootstrap import difference
from modules.evaluation.output import table, write_json

FOMM_STEPS, FOMM_TIME = "fomm equal steps", "fomm equal time"  # runs by name
METRICS, DONE = "evaluation/checkpoint/metrics.json", "done.json"  # of a run: its figures, its seconds and size
BRIEFLY = "encoders briefly"  # what encoders without a term are set against
TRIVIAL = ("no motion", "truth")  # rows of every evaluation, the same in all of them
SHOWN = ("PSNR", "SSIM", "CSIM", "pose", "landmarks", "AU", "identity")
KNOWN = (
    ("z_id", "rank1"),
    ("z_sem", "rank1"),
    ("z_sem", "yaw"),
    ("z_sem", "pitch"),
    ("z_sem", "roll"),
    ("z_sem", "action units"),
    ("z_id", "pitch"),
)
Measured = dict[int, dict[str, Any]]  # seed -> metrics.json of a run


def show(out: Path, among: list[int]) -> None:
    """Print and write what was measured, means over seeds.

    Differences are of the seeds that both have, and how sure they are is the bootstrap's over pairs of source and
    driver, or over people: how much one training differs from the next is not in it, so every seed's difference stands
    beside.
    """
    found: dict[str, Measured] = {}
    for seed in among:
        for path in sorted((out / str(seed)).glob(f"*/{METRICS}")):
            run = json.loads((path.parents[2] / DONE).read_text(encoding="utf-8"))
            metrics = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(path.parents[2].name, {})[seed] = metrics | {"run": run}
    if not found:
        raise UserError(f"{out}: nothing is measured there yet; run the other parts first")
    measured = [metrics["measured"] for seeds in found.values() for metrics in seeds.values()]
    if any(other != measured[0] for other in measured):
        raise UserError(f"{out}: measured in different ways, or by different networks; remove what is older")
    # what shows nothing yet has no pictures to compare
    shown = {name: seeds for name, seeds in found.items() if not name.startswith("encoders")}
    means: dict[str, dict[str, float]] = {}
    for name, seeds in shown.items():
        for way in next(iter(seeds.values()))["each"]["reenactment"]:
            row = way if way in TRIVIAL else f"{name}: {way}"
            means[row] = {column: mean(map(mean, _each(seeds, way, column, seeds))) for column in SHOWN}
    differences = {}
    for name, way, other, others_way in _questions(shown, means):
        mine, theirs = shown[name], shown[other]
        both = sorted(mine.keys() & theirs.keys())
        differences[f"{name}: {way} less {other}: {others_way}"] = {
            column: _difference(_each(mine, way, column, both), _each(theirs, others_way, column, both))
            for column in SHOWN
        }
    for name in found:
        if name.startswith("encoders without") and BRIEFLY in found:
            both = sorted(found[name].keys() & found[BRIEFLY].keys())
            differences[f"{name} less {BRIEFLY}"] = {
                f"{z} {what}": _difference(*(_each_person(found[who], z, what, both) for who in (name, BRIEFLY)))
                for z, what in KNOWN
            }
    known = {
        name: {f"{z} {what}": [m["disentanglement"]["model"][z][what] for m in seeds.values()] for z, what in KNOWN}
        for name, seeds in found.items()
        if "disentanglement" in next(iter(seeds.values()))
    }
    runs = {name: {seed: metrics["run"] for seed, metrics in seeds.items()} for name, seeds in found.items()}
    write_json(
        out / "comparison.json",
        {"runs": runs, "means": means, "differences": differences, "embeddings": known},
    )
    for name, seeds in runs.items():
        count, minutes = next(iter(seeds.values()))["parameters"], mean(run["seconds"] for run in seeds.values()) / 60
        print(f"{name}: seeds {[*seeds]}, {count / 1e6:.2f} M parameters, {minutes:.1f} minutes with its start's")
    print(table(["", *SHOWN], [[row, *(f"{v:.3f}" for v in values.values())] for row, values in means.items()]))
    print("\nPSNR, SSIM, CSIM: more is better; the others: less. FOMM's best way is that of the highest PSNR.")
    for row, values in differences.items():
        print(f"\n{row} (95 % over pairs or people; of each seed)")
        for column, (apart, (low, high), seeds) in values.items():
            each = ", ".join(f"{value:+.3f}" for value in seeds)
            print(f"  {column:18} {apart:+.3f} ({low:+.3f} to {high:+.3f}; {each})")
    if known:
        rows = [[name, *(f"{mean(v):.3f}" for v in values.values())] for name, values in known.items()]
        print("\nshare of people found, and R2 of probes (encoders by themselves have no z_exp yet)")
        print(table(["", *next(iter(known.values()))], rows))


def _questions(shown: dict[str, Measured], means: dict[str, dict[str, float]]) -> Iterator[tuple[str, str, str, str]]:
    """What is compared, as (run, way, other run, its way): SID with FOMM's best way, and without a term with all."""
    if "generator" not in shown:
        return
    for other in (FOMM_STEPS, FOMM_TIME):
        ways = [row for row in means if row.startswith(f"{other}: ") and "static" not in row]
        if ways:
            best = max(ways, key=lambda row: means[row]["PSNR"])
            yield "generator", "embedding", other, best.removeprefix(f"{other}: ")
    for name in shown:
        if name.startswith("generator without"):
            yield name, "embedding", "generator", "embedding"


def _each(measured: Measured, way: str, column: str, seeds: Iterable[int]) -> list[list[float]]:
    """Of every seed, the figures of every pair."""
    return [measured[seed]["each"]["reenactment"][way][column] for seed in seeds]


def _each_person(measured: Measured, z: str, what: str, seeds: Iterable[int]) -> list[list[float]]:
    """Of every seed, the figures of every person."""
    return [measured[seed]["each"]["model"][z][what] for seed in seeds]


def _difference(mine: list[list[float]], theirs: list[list[float]]) -> tuple[float, tuple[float, float], list[float]]:
    """Mean over seeds, its interval over pairs or people, and mean of every seed."""
    apart, sure = difference(*([mean(values) for values in zip(*rows, strict=True)] for rows in (mine, theirs)))
    return apart, sure, [mean(a) - mean(b) for a, b in zip(mine, theirs, strict=True)]
