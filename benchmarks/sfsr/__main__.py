"""What SFSR makes of real photographs, and how good its estimates of x0 are.

    python -m benchmarks.sfsr estimators                        errors by noise level in the painted oval, and cost
    python -m benchmarks.sfsr real --photographs DIR            faces swapped and reenacted among photographs of yours

DIR holds photographs PERSON#NAME.jpg, or one of a person under any name, each with some room around the face.  Faces on
the face world, whose truth is known, are measured by run.py --mode evaluate.  Nothing is written but --sheet.
"""

from __future__ import annotations

from pathlib import Path

from modules.arguments import Parser, number
from modules.errors import UserError, run_script

from ..mef.estimates import ROOT, estimators
from . import estimates, real

BUNDLED = ROOT / "MEF_Checkpoints" / "sfsr"


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("what", choices=("estimators", "real"), help="what to measure")
    add("--checkpoint", type=Path, default=BUNDLED, help="folder of SFSR's adapters")
    add("--rounds", type=number(int, 1, 100), default=5, help="repetitions of estimators' timing; the median is told")
    add("--photographs", type=Path, help="folder of photographs, of real")
    add("--pairs", type=number(int, 1, 10**6), default=20, help="pictures painted into for each task of real")
    add("--steps", type=number(int, 1, 1000), default=20, help="of the base's scheduler, of real")
    add("--seed", type=number(int, 0, 2**31), default=0, help="of who is painted into which picture, of real")
    add(
        "--sheet", type=Path, help="picture to write, of the first eight: source, reference, target, each task's result"
    )
    args = parser.parse_args()
    if args.what == "estimators":
        estimators(estimates.painted(args.checkpoint), args.rounds)
    elif args.photographs is None:
        raise UserError("--photographs: is needed with real")
    else:
        real.real(args.photographs, args.checkpoint, args.pairs, args.steps, args.seed, args.sheet)


if __name__ == "__main__":
    run_script(main)
