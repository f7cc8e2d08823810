"""Live: a photograph follows your camera, or a video that plays, on a page in the browser.  For this computer alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..arguments import Parser, number
from ..bundled import BUNDLED, bundled
from ..errors import UserError, run_script
from ..options import add_mark_options
from ..sid.group_options import face

SIZE = 512  # pixels: the longest side of pictures, so that they come quickly


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--source", required=True, help="picture of the person")
    add("--camera", type=number(int, 0, 99), help="which of the cameras that the browser finds (default: 0, the first)")
    add("--video", help="a video, played in real time, in place of the camera")
    add("--smooth", action="store_true", help="smooth what is read off the driver over time")
    add("--strength", type=number(float, 0, 10), default=1.0, help="0: no change; 1: as the driver; above 1: more")
    add("--face", type=face, default="largest", help="of several in the source: largest, left, right, or a number")
    what = "show the face's square instead of the whole source, which is quicker"
    add("--no-paste_back", dest="paste_back", action="store_false", default=None, help=what)
    add("--result_size", type=number(int, 16, 16384), help=f"longest side of pictures, in pixels (default: {SIZE})")
    add(
        "--config",
        help="YAML file of a model with framing_params, and with --checkpoint its weights (default: bundled)",
    )
    add("--checkpoint", help="its weights")
    add("--port", type=number(int, 1, 65535), default=7861, help="of http://127.0.0.1:PORT/")
    add("--cpu", action="store_true", help="do not use a GPU")
    add_mark_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if (args.config is None) != (args.checkpoint is None):
        raise UserError("--config and --checkpoint belong together; give both, or neither")
    if args.camera is not None and args.video is not None:
        raise UserError("--camera and --video: one of them drives; give one")
    if args.paste_back is False:
        if args.result_size is not None:
            raise UserError(
                "--result_size: with --no-paste_back pictures have the model's size; leave one of the two out"
            )
    else:
        args.result_size = args.result_size or SIZE

    from ..loopback import check_port
    from ..media.checks import check_opens, check_picture

    check_port(args.port)  # before anything slow
    check_picture(args.source)
    if args.video is not None:
        check_opens(args.video)
    config, checkpoint = model_of(args)

    from .film import Film
    from .preview import Preview
    from .server import serve

    film = None if args.video is None else Film(args.video)
    performance, packet = perform(args, config, checkpoint)
    serve(Preview(performance, film, packet), args.port, None if film else args.camera or 0)


def model_of(args: argparse.Namespace) -> tuple[Any, str | Path]:
    """The configuration of the model, and its checkpoint."""
    from ..config.files import load_animation_config
    from ..training.checkpoint_file import check_file

    config_path, checkpoint = (getattr(args, name) or bundled(path) for name, path in BUNDLED.items())
    config = load_animation_config(config_path)
    if config.framing_params is None:
        raise UserError(f"{config_path}: has no framing_params, by which the face is followed; give another model")
    check_file(checkpoint)
    return config, checkpoint


def perform(args: argparse.Namespace, config: Any, checkpoint: str | Path) -> tuple[Any, str]:
    """What draws, and the metadata of its pictures."""
    from ..devices import best_device
    from ..mark.marking import of_photograph
    from ..sid import inference
    from ..sid.frames import frame_size
    from ..sid.framing import Framing
    from ..sid.motion_options import MotionOptions
    from ..world.control.options import Control
    from .performance import Performance

    marking = of_photograph(args.watermark, checkpoint)
    shown = {"face": args.face, "paste_back": args.paste_back, "result_size": args.result_size, "marking": marking}
    framing = Framing(frame_size(config), params=config.framing_params, cpu=args.cpu, **shown)
    options = MotionOptions(relative=True, strength=args.strength, control=Control(smooth=args.smooth))
    moves = inference.prepare(config, checkpoint, best_device(args.cpu), "auto")
    return Performance(moves(options), framing, args.source), marking.packet


if __name__ == "__main__":
    run_script(main)
