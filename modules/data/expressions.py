"""A bank of reference pictures of expressions: people of the face world who show each word, in a folder of its name."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import Parser, number
from ..errors import UserError, run_script


def arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write into: WORD/PERSON.png, and a sheet.png")
    add("--people", type=number(int, 1, 10**4), default=4, metavar="N", help="people who show each word")
    add("--labels", metavar="A,B", help="words, with commas between them (default: neutral and all 135)")
    add("--size", type=number(int, 32, 2048), default=256, metavar="S", help="pixels of a picture's side")
    add(
        "--seed",
        type=number(int, 0, 2**31),
        help="seed of the people and of how they differ (default: one that nothing else has)",
    )
    add("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    from ..world.emotions import NEUTRAL, emotions, find

    words = [NEUTRAL, *emotions()] if args.labels is None else [word.strip() for word in args.labels.split(",")]
    shown = [find(word, "--labels") for word in words]
    from .expression_pictures import SEED, SHEET, write_bank

    taken = [args.out / name for name in (SHEET, *(emotion.name for emotion in shown)) if (args.out / name).exists()]
    if taken:
        raise UserError(f"{taken[0]}: is there already; choose another folder, or remove it")
    from ..atomic import check_place
    from ..devices import best_device

    check_place(args.out / SHEET)
    seed = SEED if args.seed is None else args.seed
    write_bank(args.out, shown, args.people, args.size, seed, best_device(args.cpu))
    print(f"wrote {len(shown) * args.people} pictures of {len(shown)} words to '{args.out}'")


if __name__ == "__main__":
    run_script(main)
