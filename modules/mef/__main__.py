"""Train MEF: identity and expression adapters for a frozen Stable Diffusion, from captioned portraits."""

from __future__ import annotations

from ..arguments import training_options, training_parser
from ..errors import run_script


def main() -> None:
    args = training_parser(__doc__, "config/mef-sd15.yaml").parse_args()
    from ..config.files import load_mef_config
    from ..training.run import Run
    from .train import train_mef

    train_mef(load_mef_config(args.config), Run(**training_options(args)))


if __name__ == "__main__":
    run_script(main)
