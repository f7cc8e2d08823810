"""What a run tells while it goes: the bar, ``log.jsonl`` and TensorBoard every few steps, ``log.txt`` every epoch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..atomic import write_text
from ..devices import memory

LEFT_OUT = " so far: "  # in the lines of log.txt that name what could not be read
STEPS_FILE, EPOCHS_FILE = "log.jsonl", "log.txt"


class TrainingLog(contextlib.AbstractContextManager):
    """The log of the main process, in a run's folder; lines of steps and epochs that will be run again are dropped.

    Args:
        total: steps of the whole run.
        step, epoch: where the run stands.
    """

    def __init__(self, folder: Path, total: int, step: int, epoch: int):
        self.folder = folder
        _keep_before(folder / EPOCHS_FILE, lambda line: not line[:8].isdecimal() or int(line[:8]) < epoch)
        _keep_before(folder / STEPS_FILE, lambda line: json.loads(line)["step"] <= step)
        self.total = total
        self.bar = tqdm(total=total, initial=step, unit="step", dynamic_ncols=True)
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        self.began, self.begun_at = time.monotonic(), step

    def __exit__(self, *exception: object) -> None:
        self.writer.close()
        self.bar.close()

    def advance(self, left: float | None) -> None:
        """Move the bar by a step.  If ``left`` seconds are left, its end is where they will probably end."""
        bar = self.bar
        if left is not None:  # before the update, which draws no bar that has passed its end
            done = bar.n + 1
            rate = (done - bar.initial) / max(1e-9, bar.format_dict["elapsed"])
            bar.total = min(self.total, done + round(max(0.0, left) * rate))
        bar.update()

    def steps(self, step: int, epoch: int, figures: dict[str, Any], items: int) -> None:
        """Tell the last steps' ``figures``, numbers by name and perhaps by another name below; ``items`` a step."""
        now = time.monotonic()
        samples = items * (step - self.begun_at) / max(1e-9, now - self.began)
        self.began, self.begun_at = now, step
        line = {"step": step, "epoch": epoch, **figures, "samples_per_second": samples, "memory_gib": memory()}
        with open(self.folder / STEPS_FILE, "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name in ("step", "epoch"):
                continue
            for short, number in value.items() if isinstance(value, dict) else [("", value)]:
                self.writer.add_scalar(f"{name}/{short}" if short else name, number, step)
        shown = {"loss": sum(figures["loss"].values()), "samples/s": samples, "GiB": line["memory_gib"]}
        if figures["skipped"]:
            shown["skipped"] = figures["skipped"]
        self.bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()}, refresh=False)

    def epoch(self, epoch: int, means: dict[str, float], skipped: int) -> None:
        """The epoch's line in ``log.txt``."""
        line = "; ".join(f"{name} - {value:.5f}" for name, value in means.items())
        with open(self.folder / EPOCHS_FILE, "a", encoding="utf-8") as log:
            log.write(f"{epoch:08d}) {line}\n")
            if skipped:
                log.write(f"# epoch {epoch}: steps skipped, since losses or gradients were not finite: {skipped}\n")


def left_out(folder: Path, reasons: Iterable[str]) -> None:
    """Count and name in a run's ``log.txt``, once each in its life, what could not be read."""
    path = folder / EPOCHS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = [line.partition(LEFT_OUT)[2] for line in lines if line.startswith("#") and LEFT_OUT in line]
    with open(path, "a", encoding="utf-8") as log:
        for number, reason in enumerate(sorted(set(reasons) - set(known)), start=len(known) + 1):
            log.write(f"# left out, {number}{LEFT_OUT}{reason}\n")


def _keep_before(log: Path, is_kept: Any) -> None:
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(True)
        # a line that a kill has cut short is not kept either
        write_text(log, "".join(line for line in lines if line.endswith("\n") and is_kept(line)))
