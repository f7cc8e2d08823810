"""Train rigged SID on triples: points of a face, moved as people and photographs are moved whose truth is known."""

from __future__ import annotations

from ...arguments import training_options, training_parser
from ...errors import run_script


def main() -> None:
    args = training_parser(__doc__, "config/rigged-encoder.yaml").parse_args()
    from ...config.files import load_rigged_config
    from ...training.run import Run
    from .train import train_rigged

    train_rigged(load_rigged_config(args.config), Run(**training_options(args)))


if __name__ == "__main__":
    run_script(main)
