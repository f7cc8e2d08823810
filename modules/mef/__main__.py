"""Train MEF: identity and expression adapters for a frozen Stable Diffusion, from captioned portraits."""

from __future__ import annotations

from ..arguments import training_options, training_parser
from ..errors import run_script


def main() -> None:
    args = training_parser(__doc__, "config/mef-sd15.yaml").parse_args()
    from ..config.files import load_mef_config
    from ..training.command import Run, check_run

    config, run = load_mef_config(args.config), Run(**training_options(args))
    check_run(run, may_be_folder=True)
    from .train import train_mef

    train_mef(config, run)


if __name__ == "__main__":
    run_script(main)
