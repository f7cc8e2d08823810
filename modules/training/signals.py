"""Signals and the clock, agreed upon by all processes of a run without a wait in every step."""

from __future__ import annotations

import contextlib
import signal
import time

import torch
from accelerate import Accelerator

AGREE_EVERY = 1.0  # seconds between two agreements of several processes


class Signals(contextlib.AbstractContextManager):
    """Remembers SIGTERM and SIGINT so that the loop can finish its step and save; a second one acts at once."""

    received: int = 0

    def __enter__(self) -> Signals:
        self.previous = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: object) -> None:
        self.received = number
        signal.signal(number, self.previous[number])


class Agreement:
    """What all processes do after the same step: save, or stop, and how long they have trained.

    Several processes ask one another about once a second, after a number of steps that they agree upon as well: asking
    means waiting for the GPU.  One process alone need not ask.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.steps = self.next = 0
        self.asked = time.monotonic()

    def reached(self, due: bool, received: int, seconds: float) -> tuple[bool, int, float | None]:
        """Whether to save, the signal received, and the seconds trained; between two agreements nothing and None."""
        if self.accelerator.num_processes == 1:
            return due, received, seconds
        self.steps += 1
        if self.steps < self.next:
            return False, 0, None
        now = time.monotonic()
        pace = (now - self.asked) / max(1, self.steps)  # seconds a step
        wanted = max(1, min(1000, round(AGREE_EVERY / max(pace, 1e-6))))
        main = self.accelerator.is_main_process
        own = [float(due and main), float(received), seconds * main, float(wanted * main)]
        values = torch.tensor(own, dtype=torch.float64)
        told = self.accelerator.gather(values.to(self.accelerator.device)[None]).amax(dim=0).tolist()
        self.steps, self.next, self.asked = 0, int(told[3]), now
        return bool(told[0]), int(told[1]), told[2]
