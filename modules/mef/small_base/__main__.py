"""Train a small latent diffusion model on captioned pictures, one part after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...arguments import training_options, training_parser
from ...errors import run_script


def main() -> None:
    parser = training_parser(__doc__, "config/base-demo.yaml")
    parser.add_argument(
        "--part", required=True, choices=("autoencoder", "denoiser"), help="part to train; the autoencoder comes first"
    )
    parser.add_argument("--out", default="MEF_Checkpoints/base", help="folder to write the base to")
    args = parser.parse_args()
    from ...config.files import load_small_base_config
    from ...training.command import Run, check_run

    run = Run(**training_options(args))
    run = replace(run, log_dir=str(Path(run.log_dir) / args.part))
    config = load_small_base_config(args.config)
    check_run(run, may_be_folder=True)
    from . import train

    part = {"autoencoder": train.train_autoencoder, "denoiser": train.train_denoiser}[args.part]
    part(config, Path(args.out), run)


if __name__ == "__main__":
    run_script(main)
