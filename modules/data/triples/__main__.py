"""Render groups of people and of animated photographs, from which cross-identity triples are drawn in training.

What is there already is kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse

from ...arguments import Parser, number
from ...errors import run_script


def arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the shards")
    parser.add_argument("--groups", type=number(int, 1, 10**6), required=True, help="number of groups")
    parser.add_argument("--people", type=number(int, 2, 64), default=4, help="people in a group")
    parser.add_argument("--states", type=number(int, 2, 64), default=4, help="states of each person")
    parser.add_argument("--puppets", metavar="FILE", help="puppets.safetensors of python -m modules.world.puppets")
    parser.add_argument("--people_share", type=number(float, 0, 1), default=0.5, help="of groups without photographs")
    parser.add_argument("--size", type=number(int, 32, 512), default=128, help="pixels of a side")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, help="of all that is drawn")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    from ...world.puppets.photographs import load  # late, so that --help is quick
    from .shards import Plan, write_shards

    prepared = load(args.puppets) if args.puppets else None
    plan = Plan(args.size, args.seed, args.people_share, args.people, args.states)
    write_shards(args.out, plan, prepared, args.groups)


if __name__ == "__main__":
    run_script(main)
