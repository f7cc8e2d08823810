"""Files that come with the project: weights, configurations, inputs; in a checkout beside the package, or inside it."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError

# What photographs are animated with. The two belong together: one replaced, the other must be too.
BUNDLED = {"config": "config/rigged.yaml", "checkpoint": "SID_Checkpoints/sid-rigged-256-cpk.pth"}
# What portraits are drawn with
BUNDLED_MEF = {"checkpoint": "MEF_Checkpoints/adapters", "base": "MEF_Checkpoints/base"}
_PACKAGE = Path(__file__).resolve().parent


def bundled(name: str) -> Path:
    """The bundled file or folder of that name, such as ``SID_Checkpoints/sid-adv-cpk.pth``.

    Raises:
        UserError: it is not there; the line says where it was looked for.
    """
    folder = _PACKAGE / "bundled"  # where a wheel has what lies beside the package in a checkout
    path = (folder if folder.is_dir() else _PACKAGE.parent) / name
    if not path.exists():
        raise UserError(f"{path}: no such file; it comes with DeepExpr; clone or install it again")
    return path
