"""What moves a source, by the options of the command line.  Nothing heavy is imported: mistakes are told at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config.files import load_animation_config
from ..config.rigged import RiggedConfig
from ..config.sid import Config, FramingParams
from ..errors import UserError
from ..options import check_framing
from ..training.checkpoint_file import check_file
from ..world.control.options import check_sliders
from ..world.control.sliders import SLIDERS
from .directions import check_edits
from .frames import MESH_FRAMING, POINT_FRAMES, frame_size, is_close
from .motion_options import MotionOptions
from .onnx.layout import read_config


def moved_by(
    args: argparse.Namespace, options: MotionOptions, has_video: bool
) -> tuple[Config | RiggedConfig | None, tuple[int, int], FramingParams | None]:
    """The configuration (None: --motion mesh), frame size and framing of what moves the source.

    ``has_video``: whether source or driver is one.

    Raises:
        UserError: it is not there, or cannot do what the options ask.
    """
    edits = options.control.edits
    if args.motion == "mesh":
        options.check_strength()
        check_sliders(edits)
        if args.crop is False:
            raise UserError("--no-crop: --motion mesh looks for the face in any case; leave it out")
        check_framing(args, True, has_video)
        return None, POINT_FRAMES, MESH_FRAMING
    config = load_animation_config(args.config) if args.onnx is None else read_config(Path(args.onnx))
    is_rigged = isinstance(config, RiggedConfig)
    motion = options.resolved(is_rigged or config.model_params.encoder_params is not None)
    if args.adapt_scale and is_rigged:
        raise UserError(f"--adapt_scale is of other models than {args.onnx or args.config} is of; leave it out")
    if args.adapt_scale and motion == "embedding":
        print("--adapt_scale: embedding motion is built on the source's own key points and needs no scaling")
    check_framing(args, is_close(config.framing_params, args.crop), has_video)
    if args.onnx is None:
        check_file(args.checkpoint)
    check_edits(edits, args.checkpoint, SLIDERS if is_rigged else ())
    return config, frame_size(config), config.framing_params
