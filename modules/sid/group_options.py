"""The options of several faces, and what they contradict.  Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..arguments import listed
from ..errors import UserError
from ..options import chosen

ALL = "all"


def face(text: str) -> str:
    """Which of several faces."""
    if text not in ("largest", "left", "right") and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not largest, left, right or a number from 1 up")
    return text


def face_of_source(text: str) -> str:
    """Which of several, or all."""
    return text if text == ALL else face(text)


def names_several(face: str | tuple[str, ...] | None) -> bool:
    """Whether ``face`` is of several."""
    return face == ALL or isinstance(face, tuple)


def is_group(args: argparse.Namespace) -> bool:
    """Whether several faces are to be animated."""
    return names_several(args.face)


def refuse_group(args: argparse.Namespace, what: str) -> None:
    """UserError where several faces or drivers are named, and the work is another."""
    if is_group(args):
        raise UserError(f"--face: several faces are animated, and {what}; name one")
    if isinstance(args.driving_video, tuple):
        raise UserError(f"--driving_video: several drivers animate several faces, and {what}; give one")


def check_group(args: argparse.Namespace) -> None:
    """UserError where options contradict several faces, or there are several drivers of one."""
    drivers, faces = listed(args.driving_video), listed(args.face)
    if not is_group(args):
        if len(drivers) > 1:
            raise UserError("--driving_video: several drivers are for several faces; add --face all, or name each")
        return
    if ALL in faces and len(faces) > 1:
        raise UserError("--face all names every face; leave the other --face out")
    if len(set(faces)) < len(faces):
        raise UserError(f"--face: {next(name for name in faces if faces.count(name) > 1)} is named twice; name it once")
    if ALL not in faces and len(drivers) not in (0, 1, len(faces)):
        raise UserError(f"--driving_video: {len(drivers)} drivers for {len(faces)} faces; give one, or one each")
    if len(drivers) > 1 and args.reference_image is not None:
        raise UserError("--reference_image: each face has a driver already; give it as one of the --driving_video")
    if args.relative:
        check_relative(drivers)
    for name in chosen(args, ("find_best_frame", "save_motion")):
        raise UserError(f"--{name} looks at one face and its driver; name one --face")
    if args.paste_back is False:
        raise UserError("--no-paste_back writes the square of one face; name one --face")
    if args.faceless == "skip":
        raise UserError("--faceless skip: a frame may lack one face and show another; name one --face")
    if args.track and args.source_video is not None:
        raise UserError("--track: the crops of several faces of a --source_video rest; leave it out")


def check_relative(drivers: Sequence[str]) -> None:
    """UserError where some of several drivers have no first frame that motion could be relative to."""
    from .. import media

    pictures = [media.is_image(driver) for driver in drivers]
    if any(pictures) and not all(pictures):
        raise UserError("--relative: a driving picture has no first frame; give videos alone, or leave it out")
