"""Learning rates over a run."""

from __future__ import annotations

import bisect
import math

from ..config.training import LoopParams

LR_DECAY = 0.1  # at each of epoch_milestones


def learning_rate_factor(params: LoopParams, epoch: int, step: int, steps: int, seconds: float = 0.0) -> float:
    """What learning rates are multiplied by at ``step`` of ``steps``: milestones, cosine and warming up together.

    Under a time budget the cosine goes by the ``seconds`` trained, where these are further on.
    """
    factor = LR_DECAY ** bisect.bisect_right(params.epoch_milestones, epoch)
    if params.cosine:
        spent = 0.0 if params.minutes is None else seconds / (params.minutes * 60)
        factor *= (1 + math.cos(math.pi * min(1.0, max(step / steps, spent)))) / 2
    return factor * min(1.0, (step + 1) / (params.warmup_steps + 1))
