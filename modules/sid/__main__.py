"""Train SID: expression, pose and identity from videos and photographs, self-supervised."""

from __future__ import annotations

from ..arguments import training_options, training_parser
from ..errors import run_script


def main() -> None:
    args = training_parser(__doc__, "config/sid-128.yaml").parse_args()
    from ..config.files import load_animation_config
    from ..training.run import Run
    from .train import train

    train(load_animation_config(args.config), Run(**training_options(args)))


if __name__ == "__main__":
    run_script(main)
