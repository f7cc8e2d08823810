"""A parametric world of faces: (identity, expression, pose, scene) -> picture, with exact labels."""

from modules.data.synthetic.captions import attributes, captions
from modules.data.synthetic.clips import clip
from modules.data.synthetic.draws import (
    EXPRESSIONS,
    draw_expressions,
    draw_identities,
    draw_poses,
    draw_scenes,
    expression,
)
from modules.data.synthetic.parameters import ACTION_UNITS, IDENTITY, POSE, SCENE, Faces
from modules.data.synthetic.render import Render, render

__all__ = [
    "ACTION_UNITS", "EXPRESSIONS", "IDENTITY", "POSE", "SCENE", "Faces", "Render", "attributes", "captions", "clip",
    "draw_expressions", "draw_identities", "draw_poses", "draw_scenes", "expression", "render",
]
