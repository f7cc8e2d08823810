"""Train SID: expression, pose and identity from videos and photographs, self-supervised."""

from __future__ import annotations

from ..arguments import training_options, training_parser
from ..errors import run_script


def main() -> None:
    args = training_parser(__doc__, "config/sid-128.yaml").parse_args()
    from ..config.files import load_animation_config
    from ..training.command import Run, check_run

    config, run = load_animation_config(args.config), Run(**training_options(args))
    check_run(run)
    from .train import train

    train(config, run)


if __name__ == "__main__":
    run_script(main)
