"""Make cross-identity pairs for MEF's training: a portrait, and an exemplar of its expression on another person.

What is there already is kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...arguments import Parser, number
from ...bundled import bundled
from ...data.portraits import Portrait, read_portraits
from ...errors import UserError, run_script

OF_MAKER = {
    "sid": ("portraits", "config", "checkpoint"),
    "adapters": ("portraits", "checkpoint", "base", "steps", "guidance_scale"),
    "command": ("portraits", "command"),
    "world": ("size",),
    "photographs": ("puppets", "size"),
}
NEEDED = {"sid": ("portraits",), "adapters": ("portraits", "checkpoint"), "command": ("portraits", "command")}
NEEDED |= {"world": (), "photographs": ("puppets",)}
DEFAULTS: dict[str, Any] = {"steps": 30, "guidance_scale": 3.0, "size": 256}


def arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--out", metavar="DIR", required=True, help="folder of the pairs")
    add("--count", type=number(int, 1, 10**8), required=True, help="number of candidates; not all are kept")
    what = "sid animates the donor's photograph, adapters draw the donor, command runs a face swapper;"
    add("--maker", choices=list(OF_MAKER), default="sid", help=f"{what} world and photographs render exact pairs")
    add("--portraits", metavar="DIR", help="folder of portraits with metadata.jsonl, which names their people")
    add("--config", help="of --maker sid (default: config/rigged.yaml)")
    add("--checkpoint", help="SID's weights (default: bundled), or MEF's of --maker adapters")
    add("--base", help="of --maker adapters: Stable Diffusion (default: the adapters' own)")
    add("--steps", type=number(int, 1, 1000), help="of --maker adapters: denoising steps (default: 30)")
    add("--guidance_scale", type=number(float, 1, 100), help="of --maker adapters (default: 3)")
    add("--command", help="of --maker command, such as 'swap --face {donor} --into {target} --to {out}'")
    add("--puppets", metavar="FILE", help="of --maker photographs: from python -m modules.world.puppets")
    add("--size", type=number(int, 64, 2048), help="of what is rendered, pixels of a side (default: 256)")
    add("--seed", type=number(int, 0, 2**31 - 1), default=0, help="of all that is drawn")
    what = "most mean difference of action units (default: 0.1)"
    add("--expression", type=number(float, 0, 10), help=what)
    add(
        "--pose", type=number(float, 0, 180), help="most mean difference of yaw, pitch and roll, degrees (default: 4.5)"
    )
    add("--identity", type=number(float, -1, 1), help="most cosine of the two people (default: 0.55)")
    add("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()
    taken = OF_MAKER[args.maker]
    for name in {name for names in OF_MAKER.values() for name in names} - {*taken}:
        if getattr(args, name) is not None:
            raise UserError(f"--{name}: has no meaning with --maker {args.maker}; leave it out")
    for name in NEEDED[args.maker]:
        if getattr(args, name) is None:
            raise UserError(f"--{name}: is needed with --maker {args.maker}")
    for name in taken:
        if getattr(args, name) is None:
            setattr(args, name, DEFAULTS.get(name))
    if args.maker == "sid" and (args.config is None) != (args.checkpoint is None):
        raise UserError("--config and --checkpoint belong together; give both, or neither")
    return args


def main() -> None:
    args = arguments()
    from .judge import Limits, PairJudge
    from .pairs import FILES, begun_with, make_pairs

    given = {name: getattr(args, name) for name in ("expression", "pose", "identity")}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    settings = {"maker": args.maker, "seed": args.seed, "limits": asdict(limits)}
    settings |= {name: getattr(args, name) for name in OF_MAKER[args.maker]}
    portraits: list[Portrait] = []
    if args.portraits is not None:
        found, bad = read_portraits(args.portraits)
        if bad:
            print(f"{args.portraits}: {len(bad)} portraits are left out, such as {Path(next(iter(bad))).name}")
        chosen = begun_with(args.out, args.portraits, found)
        settings[FILES], portraits = list(chosen), list(chosen.values())
    judge = PairJudge(limits, args.cpu)
    fates = make_pairs(_maker(args, portraits), judge, args.out, args.count, settings)
    rest = ", ".join(f"{count} {fate}" for fate, count in fates.most_common() if fate != "kept")
    print(f"{args.out}: {fates['kept']} pairs of {args.count} candidates" + (f"; {rest}" if rest else ""))


def _maker(args: argparse.Namespace, portraits: list[Portrait]) -> Any:
    from . import makers

    if args.maker == "world":
        return makers.FromWorld(args.size, args.seed)
    if args.maker == "photographs":
        return makers.FromPhotographs(args.puppets, args.size, args.seed)
    if args.maker == "sid":
        from .judge import CONFIG, WEIGHTS

        files = args.config or str(bundled(CONFIG)), args.checkpoint or str(bundled(WEIGHTS))
        paint = makers.by_sid(*files, args.cpu)
    elif args.maker == "adapters":
        paint = makers.by_adapters(args.checkpoint, args.base, args.steps, args.guidance_scale, args.cpu)
    else:
        paint = makers.by_command(args.command)
    return makers.FromPortraits(portraits, paint, args.seed)


if __name__ == "__main__":
    run_script(main)
