"""Where a run stands, and when it is over."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ..config.training import LoopParams


@dataclass
class Position:
    """Where a run stands: batches already done of ``epoch``, steps of the run, and the epoch's sums of losses.

    ``skipped`` counts the epoch's steps that were not finite; ``seconds``, kept under a time budget alone, what the
    run has trained.
    """

    epoch: int = 0
    batches_done: int = 0
    step: int = 0
    sums: dict[str, Any] = field(default_factory=dict)
    skipped: Any = 0
    seconds: float = 0.0


class Clock:
    """Seconds trained, those of earlier sittings included."""

    def __init__(self, before: float):
        self.before, self.began = before, time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.began


def is_over(epoch: int, seconds: float, params: LoopParams) -> bool:
    """Whether a run has nothing left to do that has done ``epoch`` epochs and trained for so many seconds."""
    spent = params.minutes is not None and seconds >= params.minutes * 60
    return spent or epoch >= params.num_epochs
