"""Groups: a few people, each in the same few states.  Any two people and two states of one make a triple.

Rendering a group of 4 people in 4 states costs 16 pictures, and gives 48 triples with a known flow.
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

PEOPLE, STATES = 4, 4
STILL = 0.25  # share of the groups whose first state is without expression
_WHOSE = torch.arange(PEOPLE).repeat_interleave(STATES)  # of the pictures of a group
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


def photograph_group(puppets: Puppets, names: list[str], size: int, seed: int) -> Group:
    """Four different people of the photographs.  It depends on the seed, the photographs and the size alone.

    Args:
        puppets: the photographs.
        names: who each of them is; four people at least.
        size: pixels of a side.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 21])
    persons = {name: np.flatnonzero(np.array(names) == name) for name in sorted(set(names))}
    chosen = [int(rng.choice(persons[name])) for name in rng.choice(sorted(persons), PEOPLE, replace=False)]
    who, other = torch.tensor(chosen), torch.from_numpy(rng.integers(len(names), size=PEOPLE))
    plates = torch.where(torch.from_numpy(rng.random(PEOPLE) < 0.5), who, other)
    donors = torch.from_numpy(choose_donors(puppets, np.array(chosen), rng.random(PEOPLE)))
    cast = puppets.take(who)
    states = _states(seed, rng)
    for person in range(PEOPLE):
        states = framed(states, cast.take([person] * STATES))
    every = States.cat([states] * PEOPLE)
    made = photographs.render(
        puppets,
        every,
        size,
        who=who[_WHOSE],
        to=_next(every),
        donors=donors[_WHOSE],
        backgrounds=draw_backgrounds(puppets, plates, size)[_WHOSE],
    )
    return _group(made.image, made.flow, made.valid, made.landmarks, states.codes)


def people_group(size: int, seed: int) -> Group:
    """Four people of the face world.  It depends on the seed and the size alone."""
    rng = np.random.default_rng([seed, 22])
    states = _states(seed, rng)
    every = States.cat([states] * PEOPLE)
    identity, scene = draw_identities(PEOPLE, seed)[_WHOSE], draw_scenes(PEOPLE, seed)[_WHOSE]

    def faces(shown: States) -> Faces:
        return shown.faces()._replace(identity=identity, scene=scene)

    made, led = render_with_flow(faces(every), faces(_next(every)), size)
    return _group(made.image, led.flow, led.valid, made.landmarks, states.codes)


def _states(seed: int, rng: np.random.Generator) -> States:
    states = draw_states(STATES, seed)
    if rng.random() < STILL:
        units = states.units.clone()
        units[0] = 0
        states = states._replace(units=units)
    return states


def _next(every: States) -> States:
    """For P x S states, those one further on; after the last comes the first."""
    order = torch.arange(PEOPLE * STATES).view(PEOPLE, STATES).roll(-1, 1).flatten()
    return every.take(order)


def _group(image: Tensor, flow: Tensor, valid: Tensor, landmarks: Tensor, codes: Tensor) -> Group:
    side = image.shape[-1] // _FLOW_SCALE
    small = F.interpolate(flow.permute(0, 3, 1, 2), (side, side), mode="bilinear", align_corners=True)
    known = F.interpolate(valid, (side, side), mode="bilinear", align_corners=True) == 1

    def people(values: Tensor) -> Tensor:
        return values.unflatten(0, (PEOPLE, STATES)).contiguous()

    return Group(
        people((image * 255).round().byte()),
        people(small.permute(0, 2, 3, 1).half()),
        people(known[:, 0]),
        people(landmarks),
        codes,
    )
