"""The command line of Inference.py.  Nothing heavy is imported here: ``--help`` answers at once."""

from __future__ import annotations

import argparse

from .arguments import Parser, Repeated, number
from .mef import target
from .options import RESULT_IMAGE, RESULT_VIDEO, add_batch_options, add_mark_options
from .sid.group_options import face, face_of_source
from .sid.options import OPTIONS as CONTROL
from .sid.options import add_options as add_control_options

WHAT = (
    "Give the person in a picture the expression and pose of a driver: animated, or in new portraits from a --prompt."
)
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
    *CONTROL,
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


def parser_of(kind: type[Parser] = Parser) -> Parser:
    """The options of the script; ``kind`` says how errors are told."""
    parser = kind(WHAT)
    add = parser.add_argument
    add("--config", help="YAML file the checkpoint was trained with (default: the bundled one); not with --prompt")
    add(
        "--checkpoint",
        help="SID's or FOMM's weights (.pth, .pth.tar, .safetensors); with --prompt MEF's (default: bundled)",
    )
    add("--source_image", help="picture of the person (default: a bundled one)")
    what = (
        "video or picture that gives expression and pose (default: a bundled one); again for each of several faces: the"
        " result ends with the shortest video, and the first gives frame rate and sound"
    )
    add("--driving_video", action=Repeated, help=what)
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
        help="as --relative, but since the frame most like the source in pose and expression",
    )
    add("--side_by_side", action="store_true", help="show source | driver | result")
    which = "largest (default), left, right, or a number, from the left"
    what = f"of several faces in the source: {which}; again for others as well; all: every face, from the left"
    add("--face", action=Repeated, type=face_of_source, help=what)
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
    add_control_options(parser)
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
    target.add_options(parser)
    add_batch_options(parser)
    add_mark_options(parser)
    return parser
