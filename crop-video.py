"""Find the faces in a video and print, for each face track, the ffmpeg command that crops it; or write the crops."""

from __future__ import annotations

import argparse

from modules.arguments import Parser, number
from modules.errors import UserError, run_script


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
    parser.add_argument("--inp", required=True, metavar="VIDEO", help="the video")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="write the crops there as VIDEO#00.mp4, VIDEO#01.mp4, ... without sound; without it ffmpeg commands are "
        "printed, which keep the sound",
    )
    parser.add_argument(
        "--image_shape",
        type=shape,
        default="256,256",
        metavar="W,H",
        help="size of the crops; they are cut square",
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
        help="a track ends when its box overlaps its first one by less (intersection over union)",
    )
    parser.add_argument(
        "--min_frames",
        type=number(int, 1, 10**9),
        default=150,
        help="shorter tracks are left out",
    )
    parser.add_argument(
        "--min_size",
        type=number(int, 1, 10**9),
        metavar="PIXELS",
        help="smaller faces are left out; small values are slower (default: 1/12 of the longer side of the video)",
    )
    parser.add_argument(
        "--detector",
        choices=("auto", "retinaface", "face-alignment"),
        default="auto",
        help="auto is retinaface, whose weights come with the project; face-alignment fetches its own (86 MB) once",
    )
    parser.add_argument("--cpu", action="store_true", help="do not use the GPU")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    from pathlib import Path

    from tqdm import tqdm

    from modules import faces, media  # late, so that --help is quick
    from modules.faces import tracks  # late, so that --help is quick

    folder = Path(args.out or "")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is not a folder: name another")
    info = media.probe_video(args.inp)
    detector = faces.load_detector(args.detector, args.cpu)
    frames = tqdm(media.read_video(args.inp), total=len(info.times), unit="frame", desc="finding faces")
    found = list(tracks.follow_faces(frames, detector, args.iou_with_initial, args.min_size))
    kept = [track for track in found if track.frames >= args.min_frames]
    if not found:
        raise UserError(f"no face found in {args.inp}: lower --min_size for small faces, or try another --detector")
    if not kept:
        longest = max(track.frames for track in found)
        raise UserError(f"no face stays for {args.min_frames} frames in {args.inp}: set --min_frames {longest} or less")

    size = (info.width, info.height)
    # written crops are named as training reads them: the video is the person until somebody renames them
    stem = Path(args.inp).stem
    names = [f"crop-{n}.mp4" if args.out is None else f"{stem}#{n:02d}.mp4" for n in range(len(kept))]
    crops = [(track, track.crop(size, args.increase), folder / name) for track, name in zip(kept, names, strict=True)]
    if args.out is None:
        for track, box, out in crops:
            print(tracks.ffmpeg_command(args.inp, track, info, box, args.image_shape, out))
        return
    for *_, out in crops:
        if out.exists():
            raise UserError(f"{out}: is there already; name another --out, or move it away")
    tracks.write_crops(
        args.inp, crops, info, args.image_shape, lambda f: tqdm(f, total=len(info.times), unit="frame", desc="cropping")
    )
    for track, box, out in crops:
        print(f"{out}: {track.frames} frames from {track.start_time:.2f} s, {box.width} pixels at {box.left},{box.top}")


if __name__ == "__main__":
    run_script(main)
