"""The options that control what moves, and what they contradict.  Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import Parser, listed, number
from ..atomic import check_place
from ..errors import UserError
from ..options import DRIVEN_ONLY, chosen
from ..world.control.options import REGIONS, Control

STRONGEST = 10.0  # of a region, and of an edit
MOTION = ".motion"  # suffix of motion templates
OPTIONS = ("region", "eyes", "mouth", "gaze", "smooth", "edit", "save_motion")


def add_options(parser: Parser) -> None:
    """The options, in a group of their own."""
    add = parser.add_argument_group("controlling what moves (SID)").add_argument
    what = "what follows the driver: face, or its parts eyes (with brows) and mouth; pose. A strength may follow:"
    add("--region", action="append", type=region, metavar="NAME[:STRENGTH]", help=f"{what} mouth:0.5; repeatable")
    add("--eyes", type=number(float, 0, 1), help="how far eyes are open, whatever the driver does: 0 closed, 1 open")
    add("--mouth", type=number(float, 0, 1), help="how far the mouth is open, likewise: 0 closed, 1 wide open")
    what = "where eyes look in their head, from -1 to 1: to the right of the picture, and up"
    add("--gaze", type=gaze, metavar="X,Y", help=what)
    add("--smooth", action="store_true", help="smooth what is read off the driver over time")
    what = "sliders added to the driver, or without one to the photograph: smile=0.6,brows=-0.3"
    add("--edit", type=edits, metavar="NAME=AMOUNT,...", help=what)
    add("--list_edits", action="store_true", help="print the sliders that --edit knows, and nothing else")
    what = f"keep what is read off the driving video in this {MOTION} file, which can be a --driving_video itself"
    add("--save_motion", metavar="FILE", help=what)


def region(text: str) -> tuple[str, float]:
    """``mouth``, or ``mouth:0.5``."""
    name, _, strength = text.partition(":")
    if name not in REGIONS:
        raise argparse.ArgumentTypeError(f"{name!r} is not {', '.join(REGIONS[:-1])} or {REGIONS[-1]}")
    return name, number(float, 0, STRONGEST)(strength) if ":" in text else 1.0


def gaze(text: str) -> tuple[float, float]:
    """``0.5,-0.2``."""
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers X,Y")
    x, y = (number(float, -1, 1)(part) for part in parts)
    return x, y


def edits(text: str) -> dict[str, float]:
    """``smile=0.6,brows=-0.3``; which names there are a model says."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, amount = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise argparse.ArgumentTypeError(f"{part!r} is not NAME=AMOUNT, such as smile=0.6")
        if name in found:
            raise argparse.ArgumentTypeError(f"{name} is named twice")
        found[name] = number(float, -STRONGEST, STRONGEST)(amount)
    return found


def control_of(args: argparse.Namespace) -> Control:
    """What the options ask for.  Raises UserError where they contradict others."""
    regions = dict(args.region or [])
    if len(regions) < len(args.region or []):
        raise UserError("--region: names a region twice; give each once")
    if regions and args.drive is not None:
        raise UserError("--drive and --region both say what follows the driver; give one of the two")
    if regions and args.pose_video is not None and "pose" not in regions:
        raise UserError("--pose_video moves the pose, which no --region names; add --region pose")
    if args.smooth and args.expression is not None:
        raise UserError("--smooth is of a driver, and --expression takes its place; give one of the two")
    return Control(regions, args.eyes, args.mouth, args.gaze, args.edit or {}, args.smooth)


def is_alone(args: argparse.Namespace) -> bool:
    """Whether the photograph is to be changed without a driver.  Raises UserError for options that are of one."""
    if args.driving_video or args.reference_image or args.expression:
        return False
    changed = chosen(args, ("edit", "eyes", "mouth", "gaze"))
    if not changed:
        return False
    for name in chosen(args, (*DRIVEN_ONLY, "strength", "region", "smooth", "save_motion")):
        if name not in ("source_video", "track", "faceless"):
            raise UserError(f"--{name} is of a driver, and there is none beside --{next(iter(changed))}; give one")
    return True


def is_motion(path: str | Path | None) -> bool:
    """Whether the name is a motion template's."""
    return path is not None and Path(path).suffix.lower() == MOTION


def check_readable(args: argparse.Namespace) -> None:
    """UserError where a picture or video is named that cannot be opened; what is in it is read later."""
    from ..media.checks import check_opens, check_picture

    for picture in filter(None, (args.target_image, args.source_image, args.reference_image)):
        check_picture(picture)
    for path in filter(None, (args.source_video, args.pose_video, *listed(args.driving_video))):
        if not is_motion(path):
            check_opens(path)


def check_motion_files(args: argparse.Namespace, driver_is_video: bool) -> None:
    """UserError where a motion template cannot drive, or cannot be written."""
    drives = next(filter(is_motion, listed(args.driving_video)), None)
    for name in ("source_image", "source_video", "reference_image", "pose_video"):
        if is_motion(getattr(args, name)):
            raise UserError(f"--{name}: a {MOTION} file holds no picture; it can be the --driving_video alone")
    if not (drives or args.save_motion):
        return
    what = f"--driving_video {drives}" if drives else "--save_motion"
    if args.motion is not None and args.motion != "embedding":
        raise UserError(f"{what}: a motion template is what SID's encoders read; leave --motion {args.motion} out")
    if args.onnx is not None:
        raise UserError(f"{what}: a motion template belongs to a checkpoint; leave --onnx out")
    if args.save_motion is None:
        return
    if not is_motion(args.save_motion):
        raise UserError(f"--save_motion: {args.save_motion} has to end in {MOTION}")
    if args.expression is not None or args.source_video is not None or not driver_is_video:
        raise UserError("--save_motion keeps what a driving video does to a --source_image; give both")
    check_place(args.save_motion)
