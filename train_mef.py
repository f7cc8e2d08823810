"""Train MEF: identity and expression adapters for a frozen Stable Diffusion, from captioned portraits."""

from __future__ import annotations

from modules.arguments import training_options, training_parser
from modules.errors import run_script


def main() -> None:
    args = training_parser(__doc__, "config/mef-sd15.yaml").parse_args()
    from modules.mef.train import train

    train(**training_options(args))


if __name__ == "__main__":
    run_script(main)
