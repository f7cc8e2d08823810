"""What SFSR makes of real photographs, and how good its estimates of x0 are.

    python -m benchmarks.sfsr estimators                        errors by noise level in the painted oval, and cost
    python -m benchmarks.sfsr real --photographs DIR            faces swapped and reenacted among photographs of yours

DIR holds photographs PERSON#NAME.jpg, or one of a person under any name, each with some room around the face.  Faces on
the face world, whose truth is known, are measured by run.py --mode evaluate.  Nothing is written but --sheet.
"""

from __future__ import annotations

from pathlib import Path

from modules.arguments import Parser, number
from modules.errors import run_script

from ..mef.estimates import ROOT, estimators
from . import estimates, real

BUNDLED = ROOT / "MEF_Checkpoints" / "sfsr"


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="what", required=True)
    of_estimators, of_real = parts.add_parser("estimators"), parts.add_parser("real")
    for part in (of_estimators, of_real):
        part.add_argument("--checkpoint", type=Path, default=BUNDLED, help="folder of SFSR's adapters")
    rounds = "repetitions of the timing; the median is told"
    of_estimators.add_argument("--rounds", type=number(int, 1, 100), default=5, help=rounds)
    add = of_real.add_argument
    add("--photographs", type=Path, required=True, help="folder of photographs")
    add("--pairs", type=number(int, 1, 10**6), default=20, help="pictures painted into for each task")
    add("--steps", type=number(int, 1, 1000), default=20, help="of the base's scheduler")
    add("--seed", type=number(int, 0, 2**31), default=0, help="of who is painted into which picture")
    what = "picture to write, of the first eight: source, reference, target, each task's result"
    add("--sheet", type=Path, help=what)
    args = parser.parse_args()
    if args.what == "estimators":
        estimators(estimates.painted(args.checkpoint), args.rounds)
    else:
        real.real(args.photographs, args.checkpoint, args.pairs, args.steps, args.seed, args.sheet)


if __name__ == "__main__":
    run_script(main)
