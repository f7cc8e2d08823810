"""Give the person in a picture the expression and pose of a driver: animated, or in new portraits from a --prompt."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from modules.arguments import TableParser
from modules.bundled import BUNDLED, BUNDLED_MEF
from modules.command import MEF_ONLY, SID_ONLY, parser_of
from modules.errors import UserError, run_script
from modules.mef import target
from modules.options import (
    FRAMING,
    check_batch,
    check_expression,
    check_onnx,
    check_row,
    chosen,
    drivers_of,
)
from modules.sid.group_options import check_group, is_group, refuse_group
from modules.sid.options import check_motion_files, check_readable, control_of, is_alone
from modules.training.checkpoint_file import check_file

ROOT = Path(__file__).parent
BUNDLED_SOURCE, BUNDLED_DRIVER = "Inputs/Identities/person-3.png", "Inputs/driving videos/driver-1.mp4"
# With --prompt the driver is a picture.
BUNDLED_REFERENCE = "Inputs/driving static images/happiness.png"


def main() -> None:
    args = parser_of().parse_args()
    if args.list_expressions:
        list_expressions()
    elif args.list_edits:
        list_edits()
    elif chosen(args, ("batch", "out")):
        batch(args)
    elif args.target_image is not None:
        refuse_group(args, "--target_image paints one")
        tell_written(target.paint(args, ROOT, (*SID_ONLY, "expression_adapter", "face_recognition")))
    elif args.prompt is not None:
        refuse_group(args, "--prompt draws one")
        draw(args)
    else:
        animate(args)


def batch(args: argparse.Namespace) -> None:
    """Every row of a table, as if it were a command line of its own; exit status 1 where some of them failed."""
    check_batch(args)

    from modules import batch as table
    from modules import media

    rows = table.read_rows(args.batch)

    from modules.mark.provenance import VERSION

    def do(row: table.Row, result: Path) -> None:
        own = {"face": None} if "face" in row.options else {}  # not as well as the command line's
        known = argparse.Namespace(**vars(args) | {"batch": None, "out": None} | own)
        row_args = parser_of(TableParser).parse_args(row.words, known)
        check_row(row_args)
        setattr(row_args, "result_image" if row.is_picture else "result_video", str(result))
        setattr(row_args, "source_image" if media.is_image(row.source) else "source_video", row.source)
        row_args.driving_video = row.driver or None
        animate(row_args)

    settings = {name: value for name, value in vars(args).items() if name not in ("batch", "out", "cpu")}
    settings |= {f"bundled {name}": str(ROOT / path) for name, path in BUNDLED.items()}
    settings |= {"face networks": str(ROOT / "Face_Checkpoints"), "version": VERSION}
    failed = table.run(rows, Path(args.out), settings, do)
    print(f"{len(rows) - len(failed)} of {len(rows)} done; {Path(args.out) / table.REPORT} has the report")
    if failed:
        sys.exit(1)


def list_expressions() -> None:
    from modules.world.emotions import listed

    print(listed())


def list_edits() -> None:
    from modules.world.control.options import listed

    print(listed())


def tell_written(files: list[Path]) -> None:
    for path in files:
        print(f"wrote {path}")


@cache
def tell_device(cpu: bool) -> None:
    """A driver too old for PyTorch's CUDA is otherwise noticed by the waiting alone."""
    import torch

    if not cpu and not torch.cuda.is_available():
        print("PyTorch finds no GPU it can use: computing on the CPU", file=sys.stderr)


def check_words(args: argparse.Namespace) -> None:
    check_expression(args)
    if args.expression_bank is not None:
        from modules.data.expression_bank import check_bank

        check_bank(args.expression, args.expression_bank)


def draw(args: argparse.Namespace) -> None:
    for name in chosen(args, SID_ONLY):
        raise UserError(f"--{name} animates a photograph; it has no meaning with --prompt")
    check_words(args)
    fill_in_bundled_mef(args)
    if not (args.expression or args.source_image or args.driving_video or args.reference_image):
        raise UserError("--source_image (who), --reference_image or --driving_video (the expression) is needed")

    from modules.mef.checks import check_named
    from modules.mef.options import PortraitOptions, check_prompt

    check_prompt(args.prompt)
    options = PortraitOptions(**chosen(args, [field.name for field in fields(PortraitOptions)]))
    drivers = drivers_of(args, [str(path) for path in options.files(args.result_image)])
    if not all(drivers.values()):
        options.check_video()
    check_readable(args)
    own = args.checkpoint, args.base, args.base_config
    others = args.expression_adapter, args.face_recognition
    check_named(*own, *others)

    from modules.mef import inference
    from modules.mef.cost import cost

    options_of_faces = args.detector, args.crop, args.cpu
    pipeline = inference.load_pipeline(*own, *options_of_faces, *others)
    if target.is_painter(pipeline):
        tell_written(target.paint_with(pipeline, args, target.options_of(args)))
        return
    embedder = pipeline.expression_embedder
    if args.detector != "auto" and embedder is not None and embedder.sid.framing is not None:
        raise UserError("--detector is of adapters whose SID has no framing_params; leave it out")
    tell_device(args.cpu)
    from modules.mark.marking import of_drawing

    weights = filter(None, (args.checkpoint, args.base, args.expression_adapter, args.face_recognition))
    artist = inference.Portraitist(pipeline, options, args.source_image, of_drawing(args.watermark, weights))
    inference.tell_unread(pipeline.base.tokenizer, args.prompt, args.negative_prompt)
    for path, is_picture in drivers.items():
        if is_picture:
            shown = None
            if args.expression is not None:
                shown = inference.named_expression(pipeline.expression_embedder, args.expression, args.expression_bank)
            for written in inference.draw_images(artist, path, args.result_image, shown):
                print(f"wrote {written}")
        else:
            count = inference.draw_video(artist, path, args.result_video)
            print(f"wrote {args.result_video} ({count} frames)")
    print(cost("drawing", artist.drawn, artist.seconds))


def fill_in_bundled(args: argparse.Namespace) -> None:
    """What the command line leaves out, from the files that come with the project."""
    if (args.config is None) != (args.checkpoint is None):
        given, missing = ("config", "checkpoint") if args.checkpoint is None else ("checkpoint", "config")
        if given == "checkpoint":
            check_file(args.checkpoint)
        raise UserError(f"--{missing} is needed as well: give the one that belongs to {getattr(args, given)}")
    for name, path in BUNDLED.items() if args.onnx is None else ():
        if getattr(args, name) is None:
            setattr(args, name, str(ROOT / path))
    if args.source_image is None and args.source_video is None:
        args.source_image = str(ROOT / BUNDLED_SOURCE)
    is_driven = args.driving_video or args.reference_image or args.expression
    if not (is_driven or is_alone(args)):
        args.driving_video = str(ROOT / BUNDLED_DRIVER)


def fill_in_bundled_mef(args: argparse.Namespace) -> None:
    """The same for --prompt: base and adapters, and without any picture also who and which expression."""
    if args.checkpoint is not None:
        return
    for name, path in BUNDLED_MEF.items():
        if getattr(args, name) is None:
            setattr(args, name, str(ROOT / path))
    if not (args.source_image or args.driving_video or args.reference_image or args.expression):
        args.source_image, args.reference_image = str(ROOT / BUNDLED_SOURCE), str(ROOT / BUNDLED_REFERENCE)


@cache  # rows of a batch share what they load
def model(config: str, checkpoint: str, precision: Any, cpu: bool) -> Any:
    from modules.config.files import load_animation_config
    from modules.devices import best_device
    from modules.sid import inference

    return inference.prepare(load_animation_config(config), checkpoint, best_device(cpu), precision)


@cache
def onnx_model(folder: str, provider: Any, cpu: bool) -> Any:
    from modules.sid import inference
    from modules.sid.onnx.session import provider_for

    return inference.prepare_onnx(Path(folder), provider_for(provider, cpu))


def animate(args: argparse.Namespace) -> None:
    for name in chosen(args, MEF_ONLY):
        raise UserError(f"--{name} draws new portraits; it needs --prompt")
    check_group(args)
    check_words(args)
    if args.motion == "mesh":
        for name in chosen(args, ("config", "checkpoint", "adapt_scale", "precision", "onnx")):
            raise UserError(f"--{name} is of a model's motion, and --motion mesh needs no model; give one of the two")
        if args.source_video is not None:
            raise UserError("--source_video: --motion mesh fits a head to one photograph; leave --motion out")
    check_onnx(args)
    alone = is_alone(args)
    control = control_of(args)
    fill_in_bundled(args)
    if alone and args.source_video is not None:  # which drives itself, as far as that goes
        args.driving_video, args.strength = args.source_video, 0.0

    from modules.sid.motion_options import MotionOptions
    from modules.sid.ways import moved_by

    drivers = drivers_of(args, [args.result_image])
    check_motion_files(args, not all(drivers.values()))
    check_readable(args)
    options = MotionOptions(
        motion=None if args.motion == "mesh" else args.motion,
        relative=args.relative or args.find_best_frame,
        adapt_scale=args.adapt_scale,
        other_pose=args.pose_video is not None,
        control=control,
        **chosen(args, ("drive", "strength")),
    )
    has_video = args.source_video is not None or not all(drivers.values())
    config, size, framing_params = moved_by(args, options, has_video)

    from modules.mark.marking import of_photograph
    from modules.sid import inference
    from modules.sid.group import framing_for, together
    from modules.sid.template import Template

    framing = framing_for(args.face, args.driving_video)(
        size,
        args.crop,
        args.detector,
        args.side_by_side,
        args.cpu,
        framing_params,
        **chosen(args, FRAMING),
        paste_back=args.paste_back,
        marking=of_photograph(args.watermark, None if args.motion == "mesh" else args.onnx or args.checkpoint),
    )
    tell_device(args.cpu)
    if args.driving_video == str(ROOT / BUNDLED_DRIVER):  # most likely nobody asked for it
        print(f"driver: the bundled {BUNDLED_DRIVER}")

    if config is None:
        animated = partial(inference.by_mesh, cpu=args.cpu)
    elif args.onnx is not None:
        animated = onnx_model(args.onnx, args.onnx_provider, args.cpu)
    else:
        animated = model(args.config, args.checkpoint, args.precision or "auto", args.cpu)
    if is_group(args):
        animated = together(animated)
    if args.expression is not None or (alone and args.source_video is None):
        show(args, animated(options), framing)
        return
    template = Template(None if args.motion == "mesh" or args.onnx else args.checkpoint, args.save_motion)
    for path, is_picture in drivers.items():
        if is_picture and options.relative:
            name = "find_best_frame" if args.find_best_frame else "relative"
            print(f"--{name}: a single driving picture has no first frame; its absolute face is taken")
        if args.source_video is not None:
            wanted = replace(options, relative=options.relative and not is_picture)
            source, result, best = args.source_video, args.result_video, args.find_best_frame
            count = inference.animate_source_video(
                animated(wanted), source, path, result, framing, args.pose_video, best, template
            )
            print(f"wrote {result} ({count} frames)")
        elif is_picture:
            still = animated(replace(options, relative=False))
            inference.animate_image(still, args.source_image, path, args.result_image, framing, args.pose_video)
            print(f"wrote {args.result_image}")
        else:
            result, best = args.result_video, args.find_best_frame
            source, pose = args.source_image, args.pose_video
            count = inference.animate_video(animated(options), source, path, result, framing, pose, best, template)
            print(f"wrote {result} ({count} frames)")


def show(args: argparse.Namespace, animated: Any, framing: Any) -> None:
    """The photograph with an expression by name."""
    from modules.sid import named

    if args.seconds is None:
        named.show_image(animated, args.source_image, args.expression, args.result_image, framing, args.expression_bank)
        print(f"wrote {args.result_image}")
    else:
        result, bank = args.result_video, args.expression_bank
        count = named.show_video(animated, args.source_image, args.expression, result, framing, args.seconds, bank)
        print(f"wrote {result} ({count} frames)")


if __name__ == "__main__":
    run_script(main)
