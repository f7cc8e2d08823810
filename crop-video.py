"""Find the faces in a video and print, for each face track, the ffmpeg command that crops it; or write the crops.

With --config or --size faces are cut out by their landmarks, as Inference.py does, from videos and photographs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from modules.arguments import Parser, number
from modules.errors import UserError, run_script

if TYPE_CHECKING:
    from modules.config.sid import FramingParams

SHAPE = (256, 256)
OF_SQUARES = ("increase", "detector")  # options of FOMM's squares alone
OF_LANDMARKS = ("above", "upright", "track")  # of crops by landmarks alone
OF_VIDEOS = ("iou_with_initial", "min_frames", "min_size", "track")


def shape(text: str) -> tuple[int, int]:
    """``256,256`` -> (256, 256): width and height of a crop, even, since most videos cannot be odd."""
    try:
        width, height = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two whole numbers such as 256,256") from None
    if min(width, height) < 2 or width % 2 or height % 2:
        raise argparse.ArgumentTypeError(f"{text}: width and height must be even, and 2 or more")
    return width, height


def arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    what = "the video; or with --config or --size a photograph, or a folder of some"
    parser.add_argument("--inp", required=True, metavar="FILE", help=what)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="write the crops there as VIDEO#00.mp4, VIDEO#01.mp4, ... without sound; without it ffmpeg commands are "
        "printed, which keep the sound; photographs become NAME.png",
    )
    parser.add_argument(
        "--image_shape",
        type=shape,
        metavar="W,H",
        help="size of the crops; they are cut square (default: of --config's frames, else 256,256)",
    )
    parser.add_argument(
        "--increase",
        type=number(float, 0, 10),
        default=0.4,
        help="room around the face on each side, in face sizes",
    )
    parser.add_argument(
        "--iou_with_initial",
        type=number(float, 0, 1),
        default=0.25,
        help="a track ends when its box overlaps its first one, or with --track the one before, by less (intersection "
        "over union)",
    )
    parser.add_argument(
        "--min_frames",
        type=number(int, 1, 10**9),
        default=150,
        help="leave out shorter tracks",
    )
    parser.add_argument(
        "--min_size",
        type=number(int, 1, 10**9),
        metavar="PIXELS",
        help="leave out smaller faces; small values are slower (default: 1/12 of the longer side of the video)",
    )
    parser.add_argument(
        "--detector",
        choices=("auto", "retinaface", "face-alignment"),
        default="auto",
        help="auto is retinaface, whose weights come with the project; face-alignment fetches its own (86 MB) once",
    )
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    add = parser.add_argument_group("by landmarks, for models whose configuration has framing_params").add_argument
    add("--config", metavar="FILE", help="the model's YAML file; what follows changes what its framing_params say")
    add("--size", type=number(float, 1, 10), help="side of the crop, in faces from brows to chin")
    what = "middle of the crop above the face's, in its sides (default: 0)"
    add("--above", type=number(float, -0.5, 0.5), help=what)
    what = "turn photographs as the head leans (default: yes)"
    add("--upright", action=argparse.BooleanOptionalAction, help=what)
    what = "let the crop of a video follow the face, instead of resting where it holds all of its movement; with --out"
    add("--track", action="store_true", help=what)
    args = parser.parse_args()
    args.given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    return args


def framing(args: argparse.Namespace) -> FramingParams | None:
    """How faces are cut by landmarks; None: in FOMM's squares.  Fills in ``args.image_shape``."""
    from dataclasses import replace

    from modules.config.files import load_animation_config
    from modules.config.sid import FramingParams

    params, shape = None, SHAPE
    if args.config is not None:
        config = load_animation_config(args.config)
        params, (height, width) = config.framing_params, config.dataset_params.frame_shape[:2]
        shape = width, height
        if params is None and args.size is None:
            reason = "has no framing_params: leave it out for FOMM's squares, or give a --size"
            raise UserError(f"--config {args.config}: {reason}")
    if args.config is not None or args.size is not None:
        options = {name: getattr(args, name) for name in ("size", "above", "upright")}
        options = {name: value for name, value in options.items() if value is not None}
        params = replace(params or FramingParams(), **options)
    args.image_shape = args.image_shape or shape
    refuse(args, OF_LANDMARKS if params is None else OF_SQUARES, "without" if params is None else "with")
    if params is not None and args.image_shape[0] != args.image_shape[1]:
        raise UserError("--image_shape: what is cut by landmarks is square; give such as 256,256")
    return params


def refuse(args: argparse.Namespace, names: Iterable[str], where: str) -> None:
    for name in names:
        if name in args.given:
            raise UserError(f"--{name} has no meaning {where} --config or --size; leave it out")


def main() -> None:
    args = arguments()
    from modules import media  # late, so that --help is quick

    folder = Path(args.out or "")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is not a folder; choose another")
    params = framing(args)
    if Path(args.inp).is_dir() or media.is_image(args.inp):
        cut_photographs(args, params, folder)
    else:
        cut_video(args, params, folder)


def cut_photographs(args: argparse.Namespace, params: FramingParams | None, folder: Path) -> None:
    from modules.media.checks import check_picture

    if params is None:
        raise UserError(f"{args.inp}: photographs are cut out by landmarks: give --config or --size")
    if args.out is None:
        raise UserError(f"{args.inp}: give --out, the folder that photographs are cut out into")
    for name in OF_VIDEOS:
        if name in args.given:
            raise UserError(f"--{name} is of videos, and {args.inp} is none; leave it out")
    if not Path(args.inp).is_dir():
        check_picture(args.inp)

    from tqdm import tqdm

    from modules.faces import photographs

    crops = photographs.planned(args.inp, folder)
    left_out = photographs.write_crops(tqdm(crops, unit="photograph"), params, args.image_shape[0], args.cpu)
    for path, reason in left_out.items():
        print(f"left out: {path}: {reason}")
    print(f"{len(crops) - len(left_out)} of {len(crops)} photographs in '{folder}'")


def cut_video(args: argparse.Namespace, params: FramingParams | None, folder: Path) -> None:
    if args.track and args.out is None:
        raise UserError("--track needs --out: no ffmpeg command follows a face")

    from modules import media

    info = media.probe_video(args.inp)

    from tqdm import tqdm

    from modules import faces
    from modules.faces import tracks
    from modules.faces.landmark_detector import LandmarkDetector

    if params is None:
        detector = faces.load_detector(args.detector, args.cpu)
    else:
        detector = LandmarkDetector(args.cpu, every=args.track)
    frames = tqdm(media.read_video(args.inp), total=len(info.times), unit="frame", desc="finding faces")
    found = list(tracks.follow_faces(frames, detector, args.iou_with_initial, args.min_size, args.track))
    kept = [track for track in found if track.frames >= args.min_frames]
    if not found:
        other = ", or try another --detector" if params is None else ""
        raise UserError(f"no face found in {args.inp}: lower --min_size for small faces{other}")
    if not kept:
        longest = max(track.frames for track in found)
        raise UserError(f"no face stays for {args.min_frames} frames in {args.inp}: set --min_frames {longest} or less")

    size = (info.width, info.height)
    # written crops are named as training reads them: the video is the person until somebody renames them
    stem = Path(args.inp).stem
    names = [f"crop-{n}.mp4" if args.out is None else f"{stem}#{n:02d}.mp4" for n in range(len(kept))]
    outs = [folder / name for name in names]
    if params is None:
        boxes = [track.crop(size, args.increase) for track in kept]
    else:
        boxes = [track.close_crop(params.size, params.above).even for track in kept]
    if args.out is None:
        for track, box, out in zip(kept, boxes, outs, strict=True):
            print(tracks.ffmpeg_command(args.inp, track, info, box, args.image_shape, out))
        return
    for out in outs:
        if out.exists():
            raise UserError(f"{out}: already exists; choose another --out, or move it away")
    if params is None:
        cutters = [tracks.square_cutter(box, args.image_shape) for box in boxes]
    else:
        framed = params.size, params.above, args.image_shape[0]
        cutters = [track.close_cutter(*framed) for track in kept]
    crops = list(zip(kept, cutters, outs, strict=True))
    tracks.write_crops(
        args.inp, crops, info, args.image_shape, lambda f: tqdm(f, total=len(info.times), unit="frame", desc="cropping")
    )
    for track, box, out in zip(kept, boxes, outs, strict=True):
        place = "following the face" if args.track else f"{box.width} pixels at {box.left},{box.top}"
        print(f"{out}: {track.frames} frames from {track.start_time:.2f} s, {place}")


if __name__ == "__main__":
    run_script(main)
