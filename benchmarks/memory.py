"""Peak memory of Inference.py, which should not grow with the driver's length, and its time per frame.

    python -m benchmarks.memory --frames 100 3000 -- --source_image S [--motion mesh, or other options of Inference.py]

Times are of the processor, all its cores together, and of the frames by which one driver is longer than the one before:
what is done once cancels out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

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


def write_driver(path: Path, frames: int, size: int = 256) -> None:
    """A face that moves to and fro, 25 frames a second."""
    faces = moving_face(1, 50, size)
    order = [*range(50), *range(49, -1, -1)]
    with media.VideoWriter(path, size, size, Fraction(25)) as writer:
        for i in range(frames):
            writer.write(faces[order[i % 100]], i / 25)


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--frames", type=number(int, 1, 10**6), nargs="+", default=[100, 3000], help="lengths of the drivers"
    )
    parser.add_argument("options", nargs="*", metavar="OPTION", help="of Inference.py, after --")
    args = parser.parse_args()
    if args.frames != sorted(set(args.frames)):
        raise UserError("--frames: give growing lengths")
    before: tuple[int, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            driver, result = Path(folder, f"{frames}.mp4"), Path(folder, f"{frames}-result.mp4")
            write_driver(driver, frames)
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
