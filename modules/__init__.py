"""DeepExpr: face reenactment with separate identity and expression embeddings.

    from deepexpr import Animator, DeepExprPipeline

Names are looked up when they are first used: a command's ``--help`` need not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mef.pipeline import DeepExprPipeline
    from .sid.animator import Animator
    from .sid.motion_options import MotionOptions
    from .sid.rigged.animator import RiggedAnimator

__all__ = ["Animator", "DeepExprPipeline", "MotionOptions", "RiggedAnimator"]

_HOMES = {
    "Animator": ".sid.animator",
    "DeepExprPipeline": ".mef.pipeline",
    "MotionOptions": ".sid.motion_options",
    "RiggedAnimator": ".sid.rigged.animator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
