"""Write a data set of synthetic faces in the training layout, with exact labels and captions."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

from modules.errors import UserError, run_script


def _count(low: int, high: int = 10**6):
    """A parser of whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return value

    return parse


def _rate(text: str) -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 25 or 30000/1001") from None
    if not 1 <= value <= 240:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 240")
    return value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m modules.data.synthetic", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write the data set into")
    parser.add_argument("--identities", type=_count(0), default=10, metavar="N", help="people to train on (default 10)")
    parser.add_argument("--test", type=_count(0), default=0, metavar="T", help="other people, to test on (default 0)")
    parser.add_argument("--clips", type=_count(0), default=2, metavar="M", help="clips of each (default 2)")
    parser.add_argument("--frames", type=_count(1), default=100, metavar="F", help="frames of each clip (default 100)")
    parser.add_argument("--fps", type=_rate, default=Fraction(25), metavar="R", help="frames per second (default 25)")
    parser.add_argument("--size", type=_count(16, 2048), default=128, metavar="S", help="pixels a side (default 128)")
    parser.add_argument("--stills", type=_count(0), default=0, metavar="K", help="photographs of each (default 0)")
    parser.add_argument("--seed", type=_count(0, 2**31), default=0, help="of everything that is random (default 0)")
    parser.add_argument("--format", choices=("mp4", "frames"), default="mp4", help="of clips (default mp4)")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write one picture of 64 faces instead of a data set")
    args = parser.parse_args()
    if (args.out is None) == (args.sheet is None):
        parser.error("give either --out or --sheet")
    return args


def main() -> None:
    args = arguments()
    if args.out is not None and args.identities + args.test == 0:
        raise UserError("--identities and --test are both 0: nobody to render")
    if args.out is not None and args.clips + args.stills == 0:
        raise UserError("--clips and --stills are both 0: nothing to render")
    import torch

    from modules.data.synthetic.dataset import Plan, write_dataset
    from modules.data.synthetic.sheet import write_sheet

    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    if args.sheet is not None:
        write_sheet(args.sheet, args.size, args.seed, device=device)
        print(f"wrote '{args.sheet}'")
        return
    plan = Plan(
        args.identities, args.clips, args.frames, args.fps, args.size, args.stills, args.test, args.seed, args.format,
        device,
    )
    write_dataset(args.out, plan)
    print(f"wrote {plan.pictures} frames of {args.identities + args.test} people to '{args.out}'")


if __name__ == "__main__":
    run_script(main)
