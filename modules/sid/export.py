"""Export what inference needs of a training checkpoint: the averaged weights in half precision, or ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..arguments import Parser
from ..bundled import BUNDLED, bundled
from ..config.files import config_to_dict, load_animation_config
from ..config.rigged import RiggedConfig
from ..config.sid import ModelParams
from ..errors import UserError, run_script
from ..training.checkpoint import save_checkpoint
from . import weights
from .rigged.model import load_rigged


def inference_checkpoint(params: ModelParams, path: str | Path, encoders: str | Path | None = None) -> dict[str, Any]:
    """A small checkpoint that :func:`.sid.weights.load_model` reads like the large one at ``path``.

    Args:
        encoders: checkpoint to take all but the generator from: the encoders, the motions that their z_exp stands for
            and how much of them is shown, and the detector whose motion their motion head learnt to tell.  The rest of
            the generator does not know them: train it further on them.
    """
    entries = _halves(params, path)
    if encoders is not None:
        theirs = _halves(params, encoders)
        taken = (weights.FACE_MOTIONS, weights.FACE_AMOUNTS)
        moving = {name: t for name, t in theirs["generator"].items() if name in taken}
        entries = theirs | {"generator": entries["generator"] | moving}
    return entries | {"model_params": config_to_dict(params)}


def rigged_checkpoint(path: str | Path, encoders: str | Path | None = None) -> dict[str, Any]:
    """The same of the rigged model; ``encoders``: checkpoint to take encoder and motion head from."""
    state = load_rigged(path).state_dict()
    if encoders is not None:
        theirs = load_rigged(encoders).state_dict()
        state = {name: t if name.startswith("generator.") else theirs[name] for name, t in state.items()}
    return {"network": {name: _half(t, name, path) for name, t in state.items()}}


def _halves(params: ModelParams, path: str | Path) -> dict[str, dict[str, torch.Tensor]]:
    state = weights.state(weights.load_model(params, path))
    return {entry: {name: _half(t, name, path) for name, t in network.items()} for entry, network in state.items()}


def _half(t: torch.Tensor, name: str, path: str | Path) -> torch.Tensor:
    # statistics of batch norms are few, and variances go beyond half precision
    if not t.is_floating_point() or name.endswith(("running_mean", "running_var")):
        return t
    half = t.half()
    if not half.isfinite().all():
        raise UserError(f"{path}: {name} holds values that half precision cannot hold: the training has diverged")
    return half


def export_onnx(config: str | None, checkpoint: str | None, encoders: str | None, folder: Path) -> None:
    """Write ONNX files of a model, by default the bundled one.  Raises UserError."""
    from .onnx.folder import check_new, write_folder

    if encoders is not None:
        raise UserError("--encoders is of --out; export with that first, then give its file as --checkpoint")
    if (config is None) != (checkpoint is None):
        raise UserError("--config and --checkpoint belong together; give both, or neither for the bundled model")
    check_new(folder)
    read = load_animation_config(config or bundled(BUNDLED["config"]))
    write_folder(read, checkpoint or bundled(BUNDLED["checkpoint"]), folder)
    print(f"wrote {folder}")


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--config", help="YAML file the checkpoint was trained with (default with --onnx: the bundled one)")
    add("--checkpoint", help="checkpoint of a training run, or with --onnx any (default: the bundled one)")
    add("--encoders", help="checkpoint of an encoders-only run, to take all but the generator from; with --out")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", help="file to write, such as mine.pth")
    place.add_argument("--onnx", metavar="DIR", help="new folder for ONNX files, which Inference.py --onnx runs")
    args = parser.parse_args()
    if args.onnx is not None:
        export_onnx(args.config, args.checkpoint, args.encoders, Path(args.onnx))
        return
    if args.config is None or args.checkpoint is None:
        raise UserError("--out needs --config and --checkpoint; give both")
    config = load_animation_config(args.config)
    if isinstance(config, RiggedConfig):
        entries = rigged_checkpoint(args.checkpoint, args.encoders)
    else:
        entries = inference_checkpoint(config.model_params, args.checkpoint, args.encoders)
    save_checkpoint(entries, Path(args.out))
    print(f"wrote {args.out} ({Path(args.out).stat().st_size / 2**20:.1f} MiB)")


if __name__ == "__main__":
    run_script(main)
