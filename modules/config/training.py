"""What the training loop reads of a configuration, whatever is trained."""

from __future__ import annotations

import operator
from typing import Literal

from .schema import option, section


@section
class LoopParams:
    """What the training loop itself reads; each stage adds its own."""

    num_epochs: int = option(100, low=1)
    num_repeats: int = option(1, low=1)  # times an epoch goes through the data set
    epoch_milestones: list[int] = option([], low=1, order=operator.lt)  # epochs at which learning rates drop tenfold
    cosine: bool = False  # they also fall along half a cosine, to 0 after the run
    warmup_steps: int = option(0, low=0)  # in which they first rise from nothing
    batch_size: int = option(1, low=1)  # items a step, over all processes together
    checkpoint_freq: int = option(50, low=1)  # epochs between numbered checkpoints
    checkpoint_minutes: float = option(30.0, above=0)  # minutes between the checkpoints to resume from
    seed: int = option(0, low=0)  # of initialisation, sampling and augmentation
    # of the networks' arithmetic; geometry stays fp32.  auto: bf16 where the device computes in it natively
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    gradient_clip: float | None = option(None, above=0)  # largest gradient norm; null = not clipped
    ema_decay: float | None = option(None, low=0, below=1)  # of the weights' moving average; null = none kept
    visualize_every: int = option(1, low=1)  # epochs between pictures in train-vis
    log_every: int = option(50, low=1)  # steps between lines of log.jsonl, on the bar and in TensorBoard
    minutes: float | None = option(None, above=0)  # of training, which the cosine then fits; null = all num_epochs
