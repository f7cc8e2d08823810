"""Contrast between the embeddings of different people, over the batches of all processes.

:func:`gather` collects rows with gradients, so that N processes and one process descend the same function.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """All processes' rows in order of rank; the backward pass sums every process's gradients of this one's."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)


def gather(x: Tensor) -> Tensor:
    """Concatenate ``[B, ...]`` over processes, own gradient included; ``x`` itself with one process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    return _Gather.apply(x)


def identity_contrast(z_id: Tensor, identity: Tensor, temperature: float) -> Tensor:
    """Supervised InfoNCE (Khosla et al., 2020): unit ``z_id [N, d]`` with labels ``[N]``; rows of one label attract.

    Rows are this process's; the columns are everybody's.  Each positive competes with the other people alone, not
    with the person's further pictures.
    """
    with torch.autocast(z_id.device.type, enabled=False):
        columns, labels = gather(z_id), gather(identity)
        same = identity[:, None] == labels[None]
        itself = torch.zeros_like(same)
        first = dist.get_rank() * len(z_id) if len(columns) > len(z_id) else 0
        itself[:, first : first + len(z_id)].fill_diagonal_(True)
        logits = z_id @ columns.T / temperature
        others = logits.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
        positive = same & ~itself
        terms = torch.where(positive, torch.logaddexp(logits, others) - logits, 0.0)
        return (terms.sum(dim=1) / positive.sum(dim=1).clamp(min=1)).mean()
