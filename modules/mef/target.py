"""``Inference.py --target_image``: its options, and what it does."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UserError
from ..options import RESULT_VIDEO, check_expression, chosen
from .options import PortraitOptions

if TYPE_CHECKING:
    from ..mark import Marking

BUNDLED = "MEF_Checkpoints/sfsr"
GUIDANCE = 2.0  # what is around a face says most of it already
TAKEN = ("source_image", "reference_image", "expression", "expression_bank", "face")


class Given(NamedTuple):
    """What is painted into what, as paths.

    Attributes:
        target: the picture; None: it is drawn first.
        source: who goes into it; None: nobody else.
        reference: a picture of the expression.
        expression: words for it, in place of that.
        bank: folder of pictures that say what the words mean.
    """

    target: str | None
    source: str | None = None
    reference: str | None = None
    expression: str | None = None
    bank: str | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("painting a face into a picture (SFSR): --target_image selects it")
    what = (
        "picture that keeps its pose, light and background: into it go the person of --source_image, the expression of "
        "--reference_image or --expression, or both. With --prompt and an SFSR --checkpoint, but without this, the "
        "picture is drawn first"
    )
    group.add_argument("--target_image", metavar="FILE", help=what)


def paint(args: argparse.Namespace, root: Path, foreign: tuple[str, ...]) -> list[Path]:
    """Paint what the command line asks for; return the files written.

    Args:
        root: of the bundled files.
        foreign: options that have no meaning here, nor with --prompt.

    Raises:
        UserError: an option, a picture or the adapters cannot be.
    """
    for name in chosen(args, [name for name in (*foreign, "driving_video") if name not in TAKEN]):
        raise UserError(f"--{name} has no meaning with --target_image; leave it out")
    if args.result_video != RESULT_VIDEO:
        raise UserError("--result_video: --target_image gives a picture; name it with --result_image")
    check_expression(args)
    _check_asked(args)
    if args.checkpoint is None:
        args.checkpoint = str(root / BUNDLED)

    from ..media.checks import check_inputs
    from ..sid.options import check_readable
    from .checks import check_named

    options = options_of(args)
    inputs = [args.target_image, args.source_image, args.reference_image]
    results = [str(path) for path in options.files(args.result_image)]
    check_inputs([path for path in inputs if path is not None], results, [])
    check_readable(args)
    own = args.checkpoint, args.base, args.base_config
    check_named(*own)

    from .inference import load_pipeline

    return paint_with(load_pipeline(*own, args.detector, args.crop, args.cpu), args, options)


def is_painter(pipeline: Any) -> bool:
    """Whether a pipeline paints into pictures."""
    from .base import is_inpainting

    return is_inpainting(pipeline.base)


def options_of(args: argparse.Namespace) -> PortraitOptions:
    names = [field.name for field in fields(PortraitOptions) if field.name != "prompt"]
    return PortraitOptions(args.prompt or "", **{"guidance_scale": GUIDANCE, **chosen(args, names)})


def _check_asked(args: argparse.Namespace) -> None:
    if not (args.source_image or args.reference_image or args.expression):
        raise UserError(
            "--target_image needs --source_image (who), or --reference_image or --expression (what the face shows)"
        )


def paint_with(pipeline: Any, args: argparse.Namespace, options: PortraitOptions) -> list[Path]:
    """The same with a pipeline that is loaded; without --target_image the picture is drawn first."""
    from ..mark.marking import of_photograph

    _check_asked(args)
    given = Given(args.target_image, args.source_image, args.reference_image, args.expression, args.expression_bank)
    marking = of_photograph(args.watermark, args.checkpoint)
    return paint_files(pipeline, options, given, args.face or "largest", args.result_image, marking)


def paint_files(
    pipeline: Any, options: PortraitOptions, given: Given, face: str, result: str, marking: Marking
) -> list[Path]:
    """Write what goes into one face of a picture; return the files.

    Args:
        face: which one, as :func:`..faces.framer.chosen` takes it.
        marking: the marks of results.

    Raises:
        UserError: a picture cannot be read or shows no such face, or the pipeline does not paint.
    """
    from .. import media
    from .inference import named_expression
    from .painter import FacePainter, side_by_side

    painter, device = FacePainter(pipeline, options), pipeline.base.device
    source, reference = (path and media.read_image(path) for path in (given.source, given.reference))
    identity = None if source is None else pipeline.embed(identity_image=source)[0]
    expression = None
    if given.expression is not None:
        expression = named_expression(pipeline.expression_embedder, given.expression, given.bank)
    elif reference is not None:
        expression = pipeline.embed(expression_image=reference)[1]
    target, where = given.target and media.read_image(given.target), given.target
    if target is None:
        (target, *_), where = painter.draw(), "what the prompt has drawn"
    place = painter.place(target, where, face)
    painted = painter.paint(place, identity, expression, progress=True)
    pictures = [place.pasted(each, device) for each in painted]
    if options.grid:
        shown = [picture for picture in (source, reference, target) if picture is not None]
        pictures = [side_by_side(min(target.shape[:2]), *shown, *pictures)]
    files = options.files(result)
    for path, picture in zip(files, pictures, strict=True):
        media.write_image(path, marking.put(picture), marking.packet)
    return files
