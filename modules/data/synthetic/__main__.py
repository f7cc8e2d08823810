"""Write a data set of synthetic faces in the training layout, with exact labels and captions."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

from ...arguments import Parser, number
from ...errors import UserError, run_script

MANY = 10**6


def _prefix(text: str) -> str:
    if not text.isalnum():
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters and digits")
    return text


def arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    add, count = parser.add_argument, number(int, 0, MANY)
    add("--out", type=Path, metavar="DIR", help="folder to write the data set into")
    add("--identities", type=count, default=10, metavar="N", help="people to train on")
    add("--test", type=count, default=0, metavar="T", help="other people, to test on")
    add("--clips", type=count, default=2, metavar="M", help="clips of each person")
    add("--frames", type=number(int, 1, MANY), default=100, metavar="F", help="frames in each clip")
    add("--fps", type=number(Fraction, 1, 240), default=Fraction(25), metavar="R", help="frames per second")
    add("--size", type=number(int, 16, 2048), default=128, metavar="S", help="pixels per side")
    add("--stills", type=count, default=0, metavar="K", help="photographs of each person")
    add("--close", action="store_true", help="show faces of photographs closely, as MEF's bundled base draws them")
    add("--seed", type=number(int, 0, 2**31), default=0, help="seed of everything random")
    add(
        "--calm",
        type=number(float, 0, 1),
        default=0.5,
        metavar="P",
        help="share of clips in which the head keeps still",
    )
    add(
        "--prefix",
        type=_prefix,
        default="p",
        help="first letters of people's names; data sets of different seeds need different ones",
    )
    add("--format", choices=("mp4", "frames"), default="mp4", help="format of the clips")
    add("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    add("--sheet", type=Path, metavar="PNG", help="write one picture of 64 faces instead of a data set")
    args = parser.parse_args()
    if (args.out is None) == (args.sheet is None):
        parser.error("give either --out or --sheet")
    return args


def main() -> None:
    args = arguments()
    if args.out is not None and args.identities + args.test == 0:
        raise UserError("--identities and --test are both 0, so there is nobody to render")
    if args.out is not None and args.clips + args.stills == 0:
        raise UserError("--clips and --stills are both 0, so there is nothing to render")
    import torch

    from .dataset import Plan, write_dataset
    from .sheet import write_sheet

    device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
    if args.sheet is not None:
        write_sheet(args.sheet, args.size, args.seed, device=device)
        print(f"wrote '{args.sheet}'")
        return
    plan = Plan(
        args.identities,
        args.clips,
        args.frames,
        args.fps,
        args.size,
        args.stills,
        args.test,
        args.seed,
        args.format,
        device,
        args.prefix,
        args.calm,
        args.close,
    )
    write_dataset(args.out, plan)
    print(f"wrote {plan.pictures} frames of {args.identities + args.test} people to '{args.out}'")


if __name__ == "__main__":
    run_script(main)
