"""A memory of people seen in the last steps: a small batch alone has few strangers to tell anybody from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LENGTH = 1024  # pictures remembered
NOBODY = -1  # identity of places not filled yet


class IdentityMemory(nn.Module):
    """The latest ``LENGTH`` identity embeddings and whose they are, a ring (after He et al., 2020: "Momentum Contrast").

    Buffers, so that they are saved with a run, continue with it, and are the same on all processes.
    """

    def __init__(self, identity_dim: int):
        super().__init__()
        self.register_buffer("z_id", torch.zeros(LENGTH, identity_dim))
        self.register_buffer("identity", torch.full((LENGTH,), NOBODY))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def remember(self, z_id: Tensor, identity: Tensor) -> None:
        """Put ``z_id [N, d]`` of the people ``identity [N]`` (of all processes) in the oldest places."""
        z_id, identity = z_id[-LENGTH:], identity[-LENGTH:]
        places = (self.next + torch.arange(len(z_id), device=z_id.device)) % LENGTH
        self.z_id[places], self.identity[places] = z_id.to(self.z_id.dtype), identity
        self.next.copy_((self.next + len(z_id)) % LENGTH)

    def known(self) -> tuple[Tensor, Tensor]:
        """What is remembered: ``[M, d]`` and ``[M]``, M growing to ``LENGTH``."""
        filled = self.identity != NOBODY
        return self.z_id[filled], self.identity[filled]
