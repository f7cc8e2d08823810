"""What options of Inference.py say together: contradictions are told before anything heavy is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from .arguments import listed
from .errors import UserError

RESULT_VIDEO, RESULT_IMAGE = "result.mp4", "result.png"
DRIVEN_ONLY = (  # of a driver, which an expression by name takes the place of
    "driving_video",
    "reference_image",
    "source_video",
    "pose_video",
    "drive",
    "relative",
    "adapt_scale",
    "find_best_frame",
    "driver_face",
    "track",
    "faceless",
)
FRAMING = ("face", "driver_face", "track", "faceless", "result_size")
CLOSE_ONLY = (*FRAMING, "source_video")  # of crops by landmarks


# What each row of a batch has of its own.
ROW_ONLY = ("target_image", "source_image", "source_video", "driving_video", "reference_image", "prompt")


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("many results at once").add_argument
    what = (
        "a .csv table with the columns source, driver, result and options, such as drive, or a folder with the folders"
        " sources and drivers, all of whose pairs are animated; what is done already is not done again"
    )
    add("--batch", metavar="FILE", help=what)
    add("--out", metavar="DIR", help="folder of the results of --batch, and of their report.csv")


def add_mark_options(parser: argparse.ArgumentParser) -> None:
    what = (
        "what marks results as made by a machine, beside their metadata: a pattern that is not seen and that python -m"
        " modules.mark finds, a label and that pattern, or none"
    )
    add = parser.add_argument_group("marking results").add_argument
    add("--watermark", choices=["invisible", "visible", "none"], default="invisible", help=what)


def check_batch(args: argparse.Namespace) -> None:
    """UserError where options contradict --batch."""
    for name, other in (("batch", "out"), ("out", "batch")):
        if getattr(args, name) is None:
            raise UserError(f"--{name} is needed as well: --{other} is of many results at once")
    for name in chosen(args, ROW_ONLY):
        raise UserError(f"--{name} is of one result; with --batch each row of the table has its own")
    if (args.result_video, args.result_image) != (RESULT_VIDEO, RESULT_IMAGE):
        raise UserError("--batch: results are named by the table's column result; leave the names out")


def check_row(args: argparse.Namespace) -> None:
    """The same of the options of a row."""
    for name in chosen(args, (*ROW_ONLY, "batch", "out", "list_expressions")):
        raise UserError(f"{name} is not an option of a row; the columns source and driver name its files")
    if (args.result_video, args.result_image) != (RESULT_VIDEO, RESULT_IMAGE):
        raise UserError("the column result names a row's result; leave result_video and result_image out")


def chosen(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of the named options that the command line holds."""
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def check_expression(args: argparse.Namespace) -> None:
    """UserError where an expression by name and other options contradict each other, or it is not known."""
    if args.expression is None:
        for name in chosen(args, ("seconds", "expression_bank")):
            raise UserError(f"--{name} is of an expression by name; give --expression as well")
        return
    from .world.emotions import parse as parse_expression

    for name in chosen(args, DRIVEN_ONLY):
        raise UserError(f"--{name} is of a driver, and --expression takes its place; give one of the two")
    if args.motion == "keypoints":
        raise UserError("--motion keypoints: a word has no key points; leave it out, or take --motion mesh")
    if args.expression_bank is None:
        parse_expression(args.expression)
    if args.seconds is None and args.result_video != RESULT_VIDEO:
        raise UserError("--result_video: without --seconds --expression gives a picture; name it with --result_image")
    if args.seconds is not None and args.result_image != RESULT_IMAGE:
        raise UserError("--result_image: --seconds gives a clip; name it with --result_video")


def drivers_of(args: argparse.Namespace, pictures: list[str]) -> dict[str | tuple[str, ...] | None, bool]:
    """The driving files, and whether each is a picture; several that drive a face each are one, and all have to be.

    Inputs and results are checked before anything is built.  ``pictures`` are the results of a driving picture; with no
    driver at all they are drawn as well.
    """
    from . import media
    from .media.checks import check_inputs

    if args.driving_video and args.reference_image and media.is_image(args.driving_video):
        raise UserError("--driving_video: is a picture, as is --reference_image; give a video, or one of the two alone")
    given = listed(args.driving_video)
    drivers = {args.driving_video: all(map(media.is_image, given))} if given else {}
    if args.reference_image is not None:
        drivers[args.reference_image] = True
    drivers = drivers or {None: args.seconds is None}
    if args.source_video is not None:
        check_source_video(args, drivers)
        return drivers
    if args.expression is None and all(drivers.values()) and args.result_video != RESULT_VIDEO:
        raise UserError("--result_video: there is no driving video; a picture's result is --result_image")
    if args.expression is None and not any(drivers.values()) and args.result_image != RESULT_IMAGE:
        raise UserError("--result_image: there is no driving picture; a video's result is --result_video")
    videos = [] if all(drivers.values()) else [args.result_video]
    inputs = [args.source_image, args.pose_video, *given, args.reference_image]
    check_inputs([path for path in inputs if path is not None], pictures if any(drivers.values()) else [], videos)
    return drivers


def check_source_video(args: argparse.Namespace, drivers: dict[str | tuple[str, ...] | None, bool]) -> None:
    """UserError where a source video cannot be driven; its result is a video, whatever drives it."""
    from . import media
    from .media.checks import check_inputs

    if args.source_image is not None:
        raise UserError("--source_video and --source_image are both the person; give one of the two")
    if len(drivers) > 1:
        raise UserError("--source_video takes one driver; give --driving_video or --reference_image")
    if args.result_image != RESULT_IMAGE:
        raise UserError("--result_image: the result of --source_video is a video; name it with --result_video")
    inputs = [args.source_video, args.pose_video, *listed(args.driving_video), args.reference_image]
    check_inputs([path for path in inputs if path is not None], [], [args.result_video])
    if media.is_image(args.source_video):
        raise UserError(f"--source_video: {args.source_video} is a picture; give it as --source_image")


def check_framing(args: argparse.Namespace, is_close: bool, has_video: bool) -> None:
    """UserError where an option would have no effect: with a crop by landmarks (``is_close``), or without one."""
    from . import media

    moving_pose = args.pose_video is not None and not media.is_image(args.pose_video)
    for name in () if is_close else chosen(args, (*CLOSE_ONLY, "paste_back")):
        raise UserError(f"--{name} needs a configuration with framing_params (the bundled one), and no --no-crop")
    for name in () if has_video or moving_pose else chosen(args, ("track", "faceless")):
        raise UserError(f"--{name} is of videos, and there is none; leave it out")
    if is_close and args.detector != "auto":
        raise UserError("--detector is of configurations without framing_params; leave it out")
    if args.result_size is not None and args.paste_back is False:
        raise UserError("--result_size is of the whole source; leave out --no-paste_back")
    if args.faceless == "skip" and moving_pose and args.source_video is None:
        raise UserError("--faceless skip: with a --pose_video, which runs by the clock, no time can be left out")


def check_onnx(args: argparse.Namespace) -> None:
    """UserError where an option contradicts --onnx, which brings weights and configuration, or needs it."""
    if args.onnx is None and args.onnx_provider is not None:
        raise UserError("--onnx_provider is of --onnx; leave it out")
    for name in () if args.onnx is None else chosen(args, ("config", "checkpoint", "precision")):
        raise UserError(f"--{name} is of a model in PyTorch, and --onnx brings another; give one of the two")
