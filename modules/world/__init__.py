"""A parametric world of faces: (identity, expression, pose, scene) -> picture, with exact labels.

    identity, scene = draw_identities(1, seed=0)[0], draw_scenes(1, seed=0)[0]
    faces = clip(identity, scene, seed=0, frames=100)
    pictures = render(faces, size=128)           # image, mask, landmarks
    print(captions(faces.take([0]))[0])

Names are looked up when they are first used, so that a command's ``--help`` need not load torch.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "draws": (
        "EXPRESSIONS",
        "draw_close_poses",
        "draw_expressions",
        "draw_identities",
        "draw_poses",
        "draw_scenes",
        "expression",
    ),
    "parameters": ("ACTION_UNITS", "CATEGORIES", "IDENTITY", "POSE", "SCENE", "Faces", "category"),
    "clips": ("clip",),
    "rendering": ("Render", "project_landmarks", "render"),
    "words": ("attributes", "captions"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: F822 - found by __getattr__
    "ACTION_UNITS",
    "CATEGORIES",
    "EXPRESSIONS",
    "IDENTITY",
    "POSE",
    "SCENE",
    "Faces",
    "Render",
    "attributes",
    "captions",
    "category",
    "clip",
    "draw_close_poses",
    "draw_expressions",
    "draw_identities",
    "draw_poses",
    "draw_scenes",
    "expression",
    "project_landmarks",
    "render",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
