"""Cross-identity triples: person A, person B showing a state, A showing the same state; with exact truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from .edges import framed
from .puppet import Puppets
from .render import Rendering, render
from .states import States, draw_states

_STILL = 0.4  # share of the sources that are without expression
_OWN_BACKGROUND = 0.5  # share of pictures with their photograph's background


class Plan(NamedTuple):
    """What B triples show.  ``people`` and ``donors`` are [B, 2], of A and of B; ``plates`` [B, 2] the puppets whose
    backgrounds are behind them."""

    people: Tensor
    donors: Tensor
    plates: Tensor
    before: States
    after: States

    def take(self, rows: slice) -> Plan:
        """Some of the triples."""
        return Plan(*(values.take(rows) if isinstance(values, States) else values[rows] for values in self))


class Triples(NamedTuple):
    """Pictures of a plan: the flow of ``target`` leads to the picture ``source``, that of ``driver`` to its
    photograph."""

    source: Rendering
    driver: Rendering
    target: Rendering


def plan_triples(puppets: Puppets, names: list[str], n: int, seed: int) -> Plan:
    """Draw ``n`` triples; row i depends on the seed, i and the puppets alone.

    Args:
        puppets: P puppets.
        names: who each of them is: two photographs of one person are never A and B.
        n: triples.
        seed: of the draw.
    """
    if len(set(names)) < 2:
        raise UserError(f"{len(set(names))} person to draw triples from; give photographs of two people or more")
    device, number = puppets.head.device, np.random.default_rng([seed, 12]).random((n, 8))
    person = np.array([sorted(set(names)).index(name) for name in names])
    a = (number[:, 0] * len(names)).astype(int)
    b = np.empty_like(a)
    for row, (first, share) in enumerate(zip(a, number[:, 1], strict=True)):
        others = np.flatnonzero(person != person[first])
        b[row] = others[int(share * len(others))]
    people = np.stack([a, b], 1)
    donors = choose_donors(puppets, people, number[:, 2:4])
    other = (number[:, 4:6] * len(names)).astype(int)
    plates = np.where(number[:, 6:8] < _OWN_BACKGROUND, people, other)
    before, after = draw_states(n, 2 * seed), draw_states(n, 2 * seed + 1)
    still = torch.from_numpy(np.random.default_rng([seed, 13]).random(n) < _STILL)
    before = before._replace(units=torch.where(still[:, None, None], 0.0, before.units))
    rows = [torch.from_numpy(np.ascontiguousarray(values)).long().to(device) for values in (people, donors, plates)]
    return Plan(*rows, before.to(device), after.to(device))


def draw_triples(puppets: Puppets, plan: Plan, size: int) -> Triples:
    """Draw the pictures of a plan, ``size`` x ``size`` pixels."""
    (a, b), donors = plan.people.T, plan.donors.T
    first, second = puppets.take(a), puppets.take(b)
    before, after = framed(plan.before, first), framed(plan.after, first, second)
    behind = [draw_backgrounds(puppets, plan.plates[:, i], size) for i in (0, 1)]
    source = render(puppets, before, size, who=a, donors=donors[0], backgrounds=behind[0])
    driver = render(puppets, after, size, who=b, donors=donors[1], backgrounds=behind[1])
    target = render(puppets, after, size, who=a, to=before, donors=donors[0], backgrounds=behind[0])
    return Triples(source, driver, target)


def choose_donors(puppets: Puppets, people: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Whose teeth ``people`` get, by numbers in [0, 1) of the same shape; who shows teeth of their own keeps them."""
    toothy = np.flatnonzero((puppets.photo[:, 4].flatten(1).amax(1) > 127).cpu().numpy())
    if not len(toothy):
        return people
    return np.where(np.isin(people, toothy), people, toothy[(number * len(toothy)).astype(int)])


def draw_backgrounds(puppets: Puppets, which: Tensor, size: int) -> Tensor:
    """``[B, 3, size, size]``: the photographs' own, without the people."""
    plates = puppets.plate[which].float() / 255
    return F.interpolate(plates, size=(size, size), mode="bilinear", antialias=True)
