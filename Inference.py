"""Give the person in a picture the expression and pose of a driver: animated, or in new portraits from a --prompt."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from modules.arguments import Parser, number
from modules.errors import UserError, run_script
from modules.options import (
    FRAMING,
    RESULT_IMAGE,
    RESULT_VIDEO,
    check_expression,
    check_framing,
    check_onnx,
    chosen,
    drivers_of,
)

ROOT = Path(__file__).parent
# What a bare `python Inference.py` animates with. The two belong together: one given, the other must be too.
BUNDLED = {"config": "config/rigged.yaml", "checkpoint": "SID_Checkpoints/sid-rigged-256-cpk.pth"}
BUNDLED_SOURCE, BUNDLED_DRIVER = "Inputs/Identities/person-3.png", "Inputs/driving videos/driver-1.mp4"
# What --prompt draws with; the driver is a picture.
BUNDLED_MEF = {"checkpoint": "MEF_Checkpoints/adapters", "base": "MEF_Checkpoints/base"}
BUNDLED_REFERENCE = "Inputs/driving static images/happiness.png"
SID_ONLY = (
    "config",
    "source_video",
    "motion",
    "drive",
    "pose_video",
    "strength",
    "relative",
    "adapt_scale",
    "find_best_frame",
    "side_by_side",
    "face",
    "driver_face",
    "paste_back",
    "track",
    "faceless",
    "result_size",
    "precision",
    "onnx",
    "onnx_provider",
    "seconds",
)
MEF_ONLY = (
    "negative_prompt",
    "num_images",
    "seed",
    "steps",
    "guidance_scale",
    "identity_scale",
    "expression_scale",
    "identity_guidance",
    "expression_guidance",
    "scheduler",
    "grid",
    "base",
    "base_config",
    "expression_adapter",
    "face_recognition",
)


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--config", help="YAML file the checkpoint was trained with (default: the bundled one); not with --prompt")
    add(
        "--checkpoint",
        help="SID's or FOMM's weights (.pth, .pth.tar, .safetensors); with --prompt MEF's (default: bundled)",
    )
    add("--source_image", help="picture of the person (default: a bundled one)")
    add("--driving_video", help="video or picture that gives expression and pose (default: a bundled one)")
    add("--reference_image", "--Reference_image", help="driving picture; with --driving_video both results are written")
    add("--expression", metavar="WORDS", help="in place of a driver: amazement, or a mixture: joy:0.6,surprise:0.4")
    add("--expression_bank", metavar="DIR", help="pictures DIR/WORD/*.jpg that say what the words of --expression mean")
    add("--list_expressions", action="store_true", help="print the 135 words that --expression knows, and nothing else")
    add("--result_video", default=RESULT_VIDEO, help="result of a driving video: .mp4, .mov, .mkv, .webm or .gif")
    add("--result_image", default=RESULT_IMAGE, help="result of a driving picture: .png or .jpg")
    what = "find and cut out the face in source and driver (default: as the model's configuration has it)"
    add("--crop", action=argparse.BooleanOptionalAction, help=what)
    what = "face detector of --crop, where the configuration has no framing of its own"
    add("--detector", choices=["auto", "retinaface", "face-alignment"], default="auto", help=what)
    add("--cpu", action="store_true", help="do not use a GPU")
    add = parser.add_argument_group("animating the photograph (SID)").add_argument
    add("--source_video", help="video of the person, in place of a picture: it keeps its sound, timing and background")
    add(
        "--motion",
        choices=["embedding", "keypoints", "mesh"],
        help="SID's motion head (default with encoders), FOMM's key points, or a head fitted to the photograph",
    )
    add("--drive", choices=["both", "expression", "pose"], help="what to take from the driver (default: both)")
    add("--pose_video", help="second driver, video or picture, for the head pose only")
    add("--strength", type=float, help="0: no change; 1: as the driver; above 1: exaggerated (default: 1)")
    add("--relative", action="store_true", help="transfer only what changes since the driver's first frame")
    add("--adapt_scale", action="store_true", help="with --relative key points: scale movements to the source's face")
    add(
        "--find_best_frame",
        action="store_true",
        help="as --relative, but since the frame whose pose is nearest to the source's",
    )
    add("--side_by_side", action="store_true", help="show source | driver | result")
    which = "largest (default), left, right, or a number, from the left"
    add("--face", type=face, help=f"of several faces in the source: {which}")
    add("--driver_face", type=face, help=f"of several faces in a driver: {which}")
    what = "put the moved face back into the whole source (default: where the configuration has a framing)"
    add("--paste_back", action=argparse.BooleanOptionalAction, help=what)
    add("--track", action="store_true", help="let the crop of a video follow the face instead of resting")
    what = (
        "driving frames without a face: keep shows the face before (default), skip leaves them and the sound out;"
        " with --source_video its own frames: keep leaves them as they are"
    )
    add("--faceless", choices=["keep", "skip"], help=what)
    what = "longest side of the result, in pixels (default: the source's)"
    add("--result_size", type=number(int, 16, 16384), help=what)
    what = "with --expression: a clip of so many seconds, there and back (default: a picture)"
    add("--seconds", type=number(float, 0.2, 3600), help=what)
    what = "what networks compute in (default: auto, which is bf16 where the device does so natively, else fp32)"
    add("--precision", choices=["auto", "fp32", "bf16", "fp16"], help=what)
    what = "run the model in this folder of python -m modules.sid.export --onnx; not with --config and --checkpoint"
    add("--onnx", metavar="DIR", help=what)
    what = "what onnxruntime computes with (default: cuda where onnxruntime and PyTorch have it, else cpu)"
    add("--onnx_provider", choices=["cpu", "cuda", "tensorrt"], help=what)
    add = parser.add_argument_group("drawing new portraits (MEF): --prompt selects it").add_argument
    add("--prompt", help="what the portrait shows: scene, clothes, style")
    add("--negative_prompt", help="what it should not show")
    add("--num_images", type=int, help="pictures to draw (default: 1)")
    add("--seed", type=int, help="seed of the first picture's noise; the next ones count up (default: 0)")
    add("--steps", type=int, help="denoising steps (default: 30)")
    add("--guidance_scale", type=float, help="weight of prompt, person and expression together (default: 5)")
    add("--identity_scale", type=float, help="strength of the person (default: 1)")
    add("--expression_scale", type=float, help="strength of the expression (default: 1)")
    add("--identity_guidance", type=float, help="separate guidance weight for the person; doubles the time")
    add("--expression_guidance", type=float, help="separate guidance weight for the expression; doubles the time")
    add("--scheduler", choices=["ddim", "dpm++", "euler", "lcm"], help="sampler (default: the base's own)")
    add("--grid", action="store_true", help="one picture: source | driver | results")
    add("--base", help="Stable Diffusion: hub id, folder or .safetensors file (default: the adapters' own)")
    add("--base_config", help="for a .safetensors base: hub id or folder with the same layout")
    what = "folder of adapters whose expression adapter takes the place of the checkpoint's"
    add("--expression_adapter", metavar="DIR", help=what)
    what = "beside it: --checkpoint is anybody's IP-Adapter FaceID file, which reads the person with this .onnx network"
    add("--face_recognition", metavar="FILE", help=what)
    return parser.parse_args()


def face(text: str) -> str:
    if text not in ("largest", "left", "right") and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not largest, left, right or a number from 1 up")
    return text


def main() -> None:
    args = parse()
    if args.list_expressions:
        list_expressions()
    elif args.prompt is not None:
        draw(args)
    else:
        animate(args)


def list_expressions() -> None:
    from modules.world.emotions import listed

    print(listed())


def tell_device(cpu: bool) -> None:
    """A driver too old for PyTorch's CUDA is otherwise noticed by the waiting alone."""
    import torch

    if not cpu and not torch.cuda.is_available():
        print("PyTorch finds no GPU it can use: computing on the CPU", file=sys.stderr)


def check_words(args: argparse.Namespace) -> None:
    check_expression(args)
    if args.expression_bank is not None:
        from modules.data.expression_pictures import check_bank  # which imports PyTorch

        check_bank(args.expression, args.expression_bank)


def draw(args: argparse.Namespace) -> None:
    for name in chosen(args, SID_ONLY):
        raise UserError(f"--{name} animates a photograph; it has no meaning with --prompt")
    check_words(args)
    fill_in_bundled_mef(args)
    if not (args.expression or args.source_image or args.driving_video or args.reference_image):
        raise UserError("--source_image (who), --reference_image or --driving_video (the expression) is needed")

    from dataclasses import fields

    from modules.mef.options import PortraitOptions, check_prompt

    check_prompt(args.prompt)
    options = PortraitOptions(**chosen(args, [field.name for field in fields(PortraitOptions)]))
    drivers = drivers_of(args, [str(path) for path in options.files(args.result_image)])
    if not all(drivers.values()):
        options.check_video()

    from modules.mef import inference
    from modules.mef.base import part_read, spelt_words
    from modules.mef.cost import cost

    options_of_faces = args.detector, args.crop, args.cpu
    others = args.expression_adapter, args.face_recognition
    pipeline = inference.load_pipeline(args.checkpoint, args.base, args.base_config, *options_of_faces, *others)
    embedder = pipeline.expression_embedder
    if args.detector != "auto" and embedder is not None and embedder.sid.framing is not None:
        raise UserError("--detector is of adapters whose SID has no framing_params; leave it out")
    tell_device(args.cpu)
    artist = inference.Portraitist(pipeline, options, args.source_image)
    if words := spelt_words(f"{args.prompt} {args.negative_prompt or ''}", pipeline.base.tokenizer):
        lacking = ", ".join(words)
        print(f"prompt: the base's vocabulary lacks {lacking}: it knows such words' letters alone", file=sys.stderr)
    for name, prompt in chosen(args, ("prompt", "negative_prompt")).items():
        if part := part_read(prompt, pipeline.base.tokenizer):
            print(f"--{name}: {part}", file=sys.stderr)
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
        raise UserError(f"--{missing} is needed as well: give the one that belongs to {getattr(args, given)}?")
    for name, path in BUNDLED.items() if args.onnx is None else ():
        if getattr(args, name) is None:
            setattr(args, name, str(ROOT / path))
    if args.source_image is None and args.source_video is None:
        args.source_image = str(ROOT / BUNDLED_SOURCE)
    if args.driving_video is None and args.reference_image is None and args.expression is None:
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


def configuration(args: argparse.Namespace) -> Any:
    """The model's, from --config or --onnx."""
    if args.onnx is not None:
        from modules.sid.onnx.folder import read_config  # what writes such folders takes time to import

        return read_config(Path(args.onnx))
    from modules.config.files import load_animation_config

    return load_animation_config(args.config)


def animate(args: argparse.Namespace) -> None:
    for name in chosen(args, MEF_ONLY):
        raise UserError(f"--{name} draws new portraits; it needs --prompt")
    check_words(args)
    if args.motion == "mesh":
        for name in chosen(args, ("config", "checkpoint", "adapt_scale", "precision", "onnx")):
            raise UserError(f"--{name} is of a model's motion, and --motion mesh needs no model; give one of the two")
        if args.source_video is not None:
            raise UserError("--source_video: --motion mesh fits a head to one photograph; leave --motion out")
    check_onnx(args)
    fill_in_bundled(args)

    from dataclasses import replace
    from functools import partial

    from modules.config.rigged import RiggedConfig
    from modules.devices import best_device
    from modules.sid import inference
    from modules.sid.framing import Framing
    from modules.sid.motion import MotionOptions

    drivers = drivers_of(args, [args.result_image])
    options = MotionOptions(
        motion=None if args.motion == "mesh" else args.motion,
        relative=args.relative or args.find_best_frame,
        adapt_scale=args.adapt_scale,
        other_pose=args.pose_video is not None,
        **chosen(args, ("drive", "strength")),
    )
    if args.motion == "mesh":
        config, size, framing_params = None, inference.POINT_FRAMES, inference.MESH_FRAMING
        options.check_strength()
        if args.crop is False:
            raise UserError("--no-crop: --motion mesh looks for the face in any case; leave it out")
    else:
        config = configuration(args)
        framing_params = config.framing_params
        if isinstance(config, RiggedConfig):
            size = inference.POINT_FRAMES
            options.resolved(has_encoders=True)
            if args.adapt_scale:
                raise UserError(f"--adapt_scale is of other models than {args.onnx or args.config} is of; leave it out")
        else:
            size = config.dataset_params.frame_shape[:2]
            motion = options.resolved(config.model_params.encoder_params is not None)
            if args.adapt_scale and motion == "embedding":
                print("--adapt_scale: embedding motion is built on the source's own key points and needs no scaling")
    framing = Framing(
        size,
        args.crop,
        args.detector,
        args.side_by_side,
        args.cpu,
        framing_params,
        **chosen(args, FRAMING),
        paste_back=args.paste_back,
    )
    check_framing(args, framing.is_close, args.source_video is not None or not all(drivers.values()))
    tell_device(args.cpu)

    if config is None:
        animated = partial(inference.by_mesh, cpu=args.cpu)
    elif args.onnx is not None:
        from modules.sid.onnx.session import provider_for

        animated = inference.prepare_onnx(Path(args.onnx), provider_for(args.onnx_provider, args.cpu))
    else:
        animated = inference.prepare(config, args.checkpoint, best_device(args.cpu), args.precision or "auto")
    if args.expression is not None:
        show(args, animated(options), framing)
        return
    for path, is_picture in drivers.items():
        if is_picture and options.relative:
            name = "find_best_frame" if args.find_best_frame else "relative"
            print(f"--{name}: a single driving picture has no first frame; its absolute face is taken")
        if args.source_video is not None:
            wanted = replace(options, relative=options.relative and not is_picture)
            source, result, best = args.source_video, args.result_video, args.find_best_frame
            count = inference.animate_source_video(
                animated(wanted), source, path, result, framing, args.pose_video, best
            )
            print(f"wrote {result} ({count} frames)")
        elif is_picture:
            still = animated(replace(options, relative=False))
            inference.animate_image(still, args.source_image, path, args.result_image, framing, args.pose_video)
            print(f"wrote {args.result_image}")
        else:
            result, best = args.result_video, args.find_best_frame
            source, pose = args.source_image, args.pose_video
            count = inference.animate_video(animated(options), source, path, result, framing, pose, best)
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
