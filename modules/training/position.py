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


def is_over(position: dict[str, Any], params: LoopParams) -> bool:
    """Whether a run at this ``training`` entry of a checkpoint has nothing left to do."""
    spent = params.minutes is not None and position.get("seconds", 0.0) >= params.minutes * 60
    return spent or position.get("epoch", 0) >= params.num_epochs
