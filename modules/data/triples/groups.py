"""Groups: a few people, each in the same few states.  Two people, a state and the next one make a triple.

A group of 4 people in 4 states costs 16 pictures and makes 48 triples.  One of 2 people in 8 states costs as much,
shows twice as many expressions and makes 16.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...world.draws import draw_identities, draw_scenes
from ...world.parameters import Faces
from ...world.puppets import render as photographs
from ...world.puppets.edges import framed
from ...world.puppets.puppet import Puppets
from ...world.puppets.states import States, draw_states
from ...world.puppets.triples import choose_donors, draw_backgrounds
from ...world.rendering import render_with_flow

PEOPLE, STATES = 4, 4  # unless others are asked for
STILL = 0.25  # share of the groups whose first state is without expression
_FLOW_SCALE = 2  # pixels of the pictures for one of the flow


class Group(NamedTuple):
    """P people in S states, drawn with H x H pixels; h = H / 2.

    Attributes:
        image: uint8 [P, S, 3, H, H].
        flow: float16 [P, S, h, h, 2] backward flow in [-1, 1] from the picture of state s to that of state s + 1 (from
            the last to the first).
        valid: bool [P, S, h, h] where it is the geometric truth and leads to what is seen there.
        landmarks: [P, S, 68, 2] in [-1, 1].
        codes: [S, K] as :data:`.world.puppets.states.CODES`.
    """

    image: Tensor
    flow: Tensor
    valid: Tensor
    landmarks: Tensor
    codes: Tensor


def photograph_group(
    puppets: Puppets, names: list[str], size: int, seed: int, people: int = PEOPLE, states: int = STATES
) -> Group:
    """Different people of the photographs.  It depends on the arguments alone.

    Args:
        puppets: the photographs.
        names: who each of them is; as many people as are asked for, at least.
        size: pixels of a side.
        seed: of the draw.
        people: in the group.
        states: of each.
    """
    rng = np.random.default_rng([seed, 21])
    persons = {name: np.flatnonzero(np.array(names) == name) for name in sorted(set(names))}
    chosen = [int(rng.choice(persons[name])) for name in rng.choice(sorted(persons), people, replace=False)]
    who, other = torch.tensor(chosen), torch.from_numpy(rng.integers(len(names), size=people))
    plates = torch.where(torch.from_numpy(rng.random(people) < 0.5), who, other)
    donors = torch.from_numpy(choose_donors(puppets, np.array(chosen), rng.random(people)))
    cast = puppets.take(who)
    shown = _states(states, seed, rng)
    for person in range(people):
        shown = framed(shown, cast.take([person] * states))
    every, whose = States.cat([shown] * people), _whose(people, states)
    made = photographs.render(
        puppets,
        every,
        size,
        who=who[whose],
        to=_next(every, states),
        donors=donors[whose],
        backgrounds=draw_backgrounds(puppets, plates, size)[whose],
    )
    return _group(made.image, made.flow, made.valid, made.landmarks, shown.codes)


def people_group(size: int, seed: int, people: int = PEOPLE, states: int = STATES) -> Group:
    """People of the face world, each in as many states.  It depends on the arguments alone."""
    rng = np.random.default_rng([seed, 22])
    shown = _states(states, seed, rng)
    every, whose = States.cat([shown] * people), _whose(people, states)
    identity, scene = draw_identities(people, seed)[whose], draw_scenes(people, seed)[whose]

    def faces(every: States) -> Faces:
        return every.faces()._replace(identity=identity, scene=scene)

    made, led = render_with_flow(faces(every), faces(_next(every, states)), size)
    return _group(made.image, led.flow, led.valid, made.landmarks, shown.codes)


def _whose(people: int, states: int) -> Tensor:
    """Number of the person in each picture of a group, int64 [P * S]."""
    return torch.arange(people).repeat_interleave(states)


def _states(count: int, seed: int, rng: np.random.Generator) -> States:
    states = draw_states(count, seed)
    if rng.random() < STILL:
        units = states.units.clone()
        units[0] = 0
        states = states._replace(units=units)
    return states


def _next(every: States, states: int) -> States:
    """For P x S states, those one further on; after the last comes the first."""
    order = torch.arange(every.size).view(-1, states).roll(-1, 1).flatten()
    return every.take(order)


def _group(image: Tensor, flow: Tensor, valid: Tensor, landmarks: Tensor, codes: Tensor) -> Group:
    states, side = len(codes), image.shape[-1] // _FLOW_SCALE
    small = F.interpolate(flow.permute(0, 3, 1, 2), (side, side), mode="bilinear", align_corners=True)
    known = F.interpolate(valid, (side, side), mode="bilinear", align_corners=True) == 1

    def people(values: Tensor) -> Tensor:
        return values.unflatten(0, (-1, states)).contiguous()

    return Group(
        people((image * 255).round().byte()),
        people(small.permute(0, 2, 3, 1).half()),
        people(known[:, 0]),
        people(landmarks),
        codes,
    )
