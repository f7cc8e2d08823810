"""A page in the browser: drop a photograph and a video, get the photograph animated. For this computer alone."""

from __future__ import annotations

import argparse

from modules.arguments import Parser, number
from modules.errors import run_script


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--port", type=number(int, 1, 65535), default=7860, help="of http://127.0.0.1:PORT/")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return parser.parse_args()


def main() -> None:
    args = parse()

    from modules.app.server import serve

    serve(args.port, args.cpu)


if __name__ == "__main__":
    run_script(main)
