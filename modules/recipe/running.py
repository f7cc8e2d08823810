"""Running a recipe: every step once, as a command of its own, whenever and however often it was interrupted."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import PACKAGE
from ..atomic import write_text
from ..config.schema import write_yaml
from ..errors import UserError
from .reading import Made, Recipe, Step, digest, filled, words

STATE = "recipe.json"  # in the folder: what each step was made of, how long it took and whether it is done
CHECKPOINTS = "*-checkpoint.pth.tar"  # of a training run, in its folder


@dataclass
class Record:
    """Of a step.

    Attributes:
        of: what its result depends on, a digest.
        seconds: it took, by the clock, all sittings together.
        cpu_seconds: processors were busy with it.
    """

    of: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    done: bool = False


class Kept:
    """The records of a folder, by step; written at every change."""

    def __init__(self, folder: Path):
        self.path = folder / STATE
        self.records: dict[str, Record] = {}
        if self.path.is_file():
            try:
                known = json.loads(self.path.read_text(encoding="utf-8"))
                self.records = {name: Record(**values) for name, values in known.items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise UserError(f"{self.path}: is not what a recipe keeps ({error}); remove its folder") from None

    def write(self) -> None:
        write_text(self.path, json.dumps({name: vars(r) for name, r in self.records.items()}, indent=1) + "\n")

    @contextmanager
    def counting(self, record: Record) -> Iterator[None]:
        """Count the seconds of what is done inside, also where it ends early."""
        began, busy = time.monotonic(), _busy()
        try:
            yield
        finally:
            record.seconds += time.monotonic() - began
            record.cpu_seconds += _busy() - busy
            self.write()


def run_recipe(recipe: Recipe, folder: Path, minutes: float | None = None, device: str = "auto") -> dict[str, Made]:
    """Run the steps that are not done yet; return what every step made.

    Args:
        folder: of everything that is made, a folder a step; an interrupted recipe goes on in it.
        minutes: of all trainings together, instead of the recipe's.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        UserError: a step of the folder was made otherwise, or has not made what it should.
        SystemExit: a command failed, with its status; it has said why.
    """
    kept, made, digests = Kept(folder), {}, {}
    minutes = recipe.minutes if minutes is None else minutes
    for number, step in enumerate(recipe.steps, 1):
        place = folder / step.name
        share = recipe.minutes_of(step, minutes)
        digests[step.name] = digest(recipe, step, share, digests)
        record = kept.records.setdefault(step.name, Record(digests[step.name]))
        if record.of != digests[step.name]:
            if record.done or _newest(place) is not None:
                raise UserError(f"{place}: was made otherwise (recipe or minutes); remove it, or choose another --out")
            record = kept.records[step.name] = Record(digests[step.name])
        if not record.done:
            kept.write()
            budget = "" if share is None else f", {share:.3g} minutes"
            print(f"[{number}/{len(recipe.steps)}] {step.name}{budget}", flush=True)
            config = _write_config(recipe, step, place, share, made)
            with kept.counting(record):
                _run(step, place, config, made, device)
                record.done = True
        made[step.name] = Made(_result(step, place), place / f"{step.name}.yaml")
    return made


def _write_config(recipe: Recipe, step: Step, place: Path, share: float | None, made: dict[str, Made]) -> Path | None:
    """A step's configuration, its paths filled in, and its minutes in every ``...train_params``."""
    values = recipe.configs.get(step.name)
    if values is None:
        return None
    values = filled(values, made)
    if share is not None:
        values = values | {k: v | {"minutes": share} for k, v in values.items() if k.endswith("train_params")}
    place.mkdir(parents=True, exist_ok=True)
    write_yaml(values, place / f"{step.name}.yaml")
    return place / f"{step.name}.yaml"


def _run(step: Step, place: Path, config: Path | None, made: dict[str, Made], device: str) -> None:
    """A step's command, and nothing half-made where it ends early: a training goes on, anything else begins anew."""
    training = step.share is not None
    target = None if step.makes is None else place / step.makes
    partial = target if target is None or training else target.with_name(f".partial.{target.name}")
    command = words(step, made if partial is None else made | {"out": Made(partial, Path())})
    if config is not None:
        command += ["--config", str(config)]
    if training:
        command += ["--log_dir", str(place / "log"), *_continued(step, place, made)]
    elif partial is not None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    _call(command, device)
    if partial is not None and partial != target and partial.exists():
        if target.is_dir():  # killed between this and the record of it
            shutil.rmtree(target)
        os.replace(partial, target)
    _result(step, place)


def _continued(step: Step, place: Path, made: dict[str, Made]) -> list[str]:
    """How a training begins, or goes on."""
    if _newest(place) is not None:
        return ["--resume", "auto"]
    if step.start is not None:
        return ["--checkpoint", made[step.start], "--finetune"]
    return [] if step.resume is None else ["--checkpoint", made[step.resume]]


def _result(step: Step, place: Path) -> Path:
    """What a step has made; of one that makes nothing, its folder.  Raises UserError if it is not there."""
    if step.makes is not None:
        found: Path | None = place / step.makes
    else:
        found = place if step.share is None else _newest(place)
    if found is None or not found.exists():
        raise UserError(f"{place}: step {step.name} has not made {step.makes or 'a checkpoint'}")
    return found


def _newest(place: Path) -> Path | None:
    """The last checkpoint of a training step: small bases keep those of their parts in folders of their own."""
    return max((place / "log").rglob(CHECKPOINTS), key=lambda path: path.stat().st_mtime_ns, default=None)


def _call(command: list[str], device: str) -> None:
    """Run a module of this package.  SystemExit if it fails."""
    shown = ["python", "-m", f"{PACKAGE}.{command[0]}", *command[1:]]
    print("$", shlex.join(shown), flush=True)
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})
    process = subprocess.Popen([sys.executable, *shown[1:]], env=environment)
    try:
        status = process.wait()
    except SystemExit:  # told to stop: the command may have something to save
        process.terminate()
        process.wait()
        raise
    except KeyboardInterrupt:  # which it has got as well
        process.wait()
        raise
    if status:
        raise SystemExit(status)


def _busy() -> float:
    """Seconds that processors have worked for commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def summary(recipe: Recipe, folder: Path, made: dict[str, Made]) -> str:
    """The steps with their minutes, and what each made."""
    records: dict[str, Any] = Kept(folder).records
    rows = [f"  {step.name:20} {records[step.name].seconds / 60:7.1f} min  {made[step.name]}" for step in recipe.steps]
    return "\n".join(rows)
