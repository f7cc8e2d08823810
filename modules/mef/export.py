"""Export the adapters, or the branch, of a training checkpoint, averaged, in half precision."""

from __future__ import annotations

from pathlib import Path

from ..arguments import Parser
from ..errors import run_script


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--checkpoint", required=True, help="checkpoint of a run of train_mef.py")
    parser.add_argument("--out", required=True, help="folder to write, such as MEF_Checkpoints/adapters")
    parser.add_argument(
        "--name_sid", action="store_true", help="refer to SID's checkpoint instead of copying its encoders"
    )
    args = parser.parse_args()

    from ..config.files import mef_config_from_dict
    from ..training.checkpoint import load_checkpoint
    from .folder import save_adapters
    from .pipeline import DeepExprPipeline

    pipeline = DeepExprPipeline.from_checkpoint(args.checkpoint, cpu=True)
    sid = mef_config_from_dict(load_checkpoint(args.checkpoint)["mef"]).model_params.sid_params.checkpoint
    save_adapters(
        Path(args.out),
        pipeline.adapters.half(),
        pipeline.embedder,
        pipeline.base_params,
        pipeline.crop_faces,
        sid if args.name_sid else None,
        pipeline.base,
    )
    print(f"wrote '{args.out}'")


if __name__ == "__main__":
    run_script(main)
