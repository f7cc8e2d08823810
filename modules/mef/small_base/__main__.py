"""Train a small latent diffusion model on captioned pictures, one part after the other."""

from __future__ import annotations

from ...arguments import training_options, training_parser
from ...errors import run_script


def main() -> None:
    parser = training_parser(__doc__, "config/base-demo.yaml")
    parser.add_argument("--part", required=True, choices=("autoencoder", "denoiser"), help="the autoencoder is first")
    parser.add_argument("--out", default="MEF_Checkpoints/base", help="folder of the base")
    args = parser.parse_args()
    from .train import train

    train(args.part, args.out, **training_options(args))


if __name__ == "__main__":
    run_script(main)
