"""One objective's part of a step: backward, and an update of the weights unless something is not finite."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import UserError

MOST_SKIPPED = 10  # steps in a row that may be not finite


class Recent(NamedTuple):
    """Means over the steps since they were last read."""

    losses: dict[str, float]
    gradient_norm: float


class Updates:
    """Follows the gradient of a module's losses with some optimisers.

    A step whose losses or gradient are not finite is skipped: weights, what optimisers remember and the statistics of
    batch norms stay as they were.  All of that is decided on the device, without waiting for it.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizers: dict[str, Optimizer],
        clip: float | None,
    ):
        self.accelerator = accelerator
        self.clip = float("inf") if clip is None else clip
        self.name = "+".join(name.removeprefix("optimizer_") for name in optimizers)
        # prepared ones know float16's loss scale
        self.optimizers = {name: accelerator.prepare(o) for name, o in optimizers.items()}
        self.parameters = [p for o in optimizers.values() for group in o.param_groups for p in group["params"]]
        self.module = accelerator.prepare(module.train())
        norms = [m for m in self.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.statistics = [t for m in norms for t in (m.running_mean, m.running_var) if t is not None]
        self.in_a_row = torch.zeros((), device=accelerator.device)  # skipped steps, up to now
        self.longest = torch.zeros((), device=accelerator.device)
        self.recent: dict[str, Tensor] = {}
        self.norms = torch.zeros((), device=accelerator.device)
        self.count = torch.zeros((), device=accelerator.device)

    def follow(self, parts: list[Any]) -> tuple[dict[str, Tensor], list[Any], Tensor]:
        """One step on a batch in parts; return losses by name, the module's outputs, and 1 where it was skipped."""
        sums: dict[str, Tensor] = {}
        outputs: list[Any] = []
        before = [t.clone() for t in self.statistics]
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for i, part in enumerate(parts):
            last = i + 1 == len(parts)  # processes exchange gradients once a step
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.module):
                terms, output = self.module(part)
                self.accelerator.backward(torch.stack(list(terms.values())).sum() / len(parts))
            outputs.append(output)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach().double() / len(parts)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.clip)
        bad = self._is_bad(torch.stack(list(sums.values())).sum(), norm)
        for optimizer in self.optimizers.values():
            if self.accelerator.scaler is None:  # which sets and removes it by itself
                optimizer.optimizer.found_inf = bad
            optimizer.step()
        for now, then in zip(self.statistics, before, strict=True):
            now.copy_(torch.where(bad > 0, then, now))
        sums = {name: torch.where(bad > 0, 0.0, value) for name, value in sums.items()}
        self._remember(sums, norm, bad)
        return sums, outputs, bad

    def _is_bad(self, loss: Tensor, norm: Tensor) -> Tensor:
        """1 where the loss, or without float16's scale the gradient, is not finite on any process; else 0."""
        finite = loss.isfinite()
        if self.accelerator.scaler is None:
            finite = finite & norm.isfinite()
        bad = (~finite).float()
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        return bad

    def _remember(self, sums: dict[str, Tensor], norm: Tensor, bad: Tensor) -> None:
        for name, value in sums.items():
            self.recent[name] = self.recent.get(name, 0.0) + value
        self.norms += norm.nan_to_num(0.0, 0.0, 0.0)  # under float16's scale infinite now and then
        self.count += 1 - bad
        self.in_a_row = (self.in_a_row + 1) * bad
        self.longest = torch.maximum(self.longest, self.in_a_row)

    def read(self) -> Recent:
        """The figures of the steps since this was last asked; the host waits for the device here."""
        self.check()
        count = max(1.0, float(self.count))
        recent = Recent({name: float(v) / count for name, v in self.recent.items()}, float(self.norms) / count)
        self.recent = {}
        self.norms, self.count = torch.zeros_like(self.norms), torch.zeros_like(self.count)
        return recent

    def check(self) -> None:
        """UserError after a run of steps that were not finite."""
        longest = int(self.longest)
        if longest >= MOST_SKIPPED:
            raise UserError(
                f"training diverged: losses or gradients of {self.name} were not finite for {longest} steps in a row; "
                "lower the learning rates, warm up longer or clip gradients"
            )
