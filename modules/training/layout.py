"""How checkpoints hold what a trainer trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from .checkpoint import restore


class Layout(NamedTuple):
    """How checkpoints hold a network, and its average under ``ema``.

    Attributes:
        state: the network -> its entries.
        load: ``(network, entries, path)`` -> the names of tensors that they lacked and may lack.  Raises UserError.
    """

    state: Callable[[Any], dict[str, Any]]
    load: Callable[[Any, dict[str, Any], str | os.PathLike], list[str]]


def _state(network: nn.Module) -> dict[str, Any]:
    return {"network": network.state_dict()}


def _load(network: nn.Module, entries: dict[str, Any], path: str | os.PathLike) -> list[str]:
    return restore(network, entries.get("network"), f"{path}: network")


ONE_NETWORK = Layout(_state, _load)  # under ``network``
