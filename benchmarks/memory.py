"""Peak memory of Inference.py, which should not grow with the driver's length, and its time per frame.

    python -m benchmarks.memory --frames 100 3000 -- --source_image S [--motion mesh, or other options of Inference.py]
    python -m benchmarks.memory --size 3840x2160 --frames 20 60 -- --source_image S
    python -m benchmarks.memory --coding h264-10 --frames 100 300 -- --source_image S

Times are of the processor, all its cores together, and of the frames by which one driver is longer than the one before:
what is done once cancels out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

from modules import media
from modules.arguments import Parser, number
from modules.data.astronaut import moving_face
from modules.errors import UserError, run_script

ROOT = Path(__file__).resolve().parent.parent

MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit(done.stderr.strip().splitlines()[-1])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


# FFmpeg's encoder, the pixels' format, options that encode soon
CODINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv420p", {"crf": "17", "preset": "veryfast"}),
    "h264-10": ("libx264", "yuv420p10le", {"crf": "17", "preset": "veryfast"}),
    "hevc-10": ("libx265", "yuv420p10le", {"crf": "20", "preset": "ultrafast", "x265-params": "log-level=none"}),
    "av1-10": ("libsvtav1", "yuv420p10le", {"crf": "30", "preset": "12"}),
}


def write_driver(path: Path, frames: int, size: tuple[int, int], coding: str) -> None:
    """A face that moves to and fro in the middle of ``size`` (width, height), 25 frames a second."""
    codec, pix_fmt, options = CODINGS[coding]
    width, height = size
    side = min(size)
    faces = moving_face(1, 50, min(side, 256))
    order = [*range(50), *range(49, -1, -1)]
    left, top = (width - side) // 2, (height - side) // 2
    canvas = np.full((height, width, 3), 96, np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for i in range(frames):
            canvas[top : top + side, left : left + side] = media.resize(faces[order[i % 100]], side, side)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        file.mux(stream.encode())


def size_of(text: str) -> tuple[int, int]:
    """``"3840x2160"`` as width and height."""
    width, _, height = text.partition("x")
    return number(int, 64, 8192)(width), number(int, 64, 8192)(height)


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--frames", type=number(int, 1, 10**6), nargs="+", default=[100, 3000], help="lengths of the drivers"
    )
    parser.add_argument("--size", type=size_of, default=(256, 256), metavar="WIDTHxHEIGHT", help="of the drivers")
    parser.add_argument("--coding", choices=CODINGS, default="h264", help="of the drivers; -10: of ten bits")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="of Inference.py, after --")
    args = parser.parse_args()
    if args.frames != sorted(set(args.frames)):
        raise UserError("--frames: give growing lengths")
    before: tuple[int, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            driver, result = Path(folder, f"{frames}.mp4"), Path(folder, f"{frames}-result.mp4")
            write_driver(driver, frames, args.size, args.coding)
            command = [sys.executable, str(ROOT / "Inference.py"), "--cpu", *args.options]
            command += ["--driving_video", str(driver), "--result_video", str(result)]
            # a process of its own per run: the system keeps one maximum over all children of a process
            out = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True)
            if out.returncode:
                raise UserError(f"Inference.py has failed: {out.stderr.strip()}")
            written = len(media.probe_video(result).times)
            kibibytes, seconds = map(float, out.stdout.split())
            each = "" if before is None else f", {(seconds - before[1]) / (frames - before[0]):.3f} s a frame"
            print(f"{frames} frames in, {written} out: peak {kibibytes / 1024:.0f} MiB{each}")
            before = frames, seconds


if __name__ == "__main__":
    run_script(main)
