"""Peak memory of Inference.py for a short and a long driver: it should not grow with the length.

python -m benchmarks.memory --config C --checkpoint K --source_image S [--frames 100 3000]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from modules import media
from modules.arguments import Parser
from modules.data.astronaut import moving_face
from modules.errors import run_script

ROOT = Path(__file__).resolve().parent.parent

MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
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
    for name in ("config", "checkpoint", "source_image"):
        parser.add_argument(f"--{name}", required=True, help="as for Inference.py")
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 3000], help="lengths of the driving videos")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            driver, result = Path(folder, f"{frames}.mp4"), Path(folder, f"{frames}-result.mp4")
            write_driver(driver, frames)
            command = [sys.executable, str(ROOT / "Inference.py"), "--cpu", "--config", args.config]
            command += ["--checkpoint", args.checkpoint, "--source_image", args.source_image]
            command += ["--driving_video", str(driver), "--result_video", str(result)]
            # a process of its own per run: the system keeps one maximum over all children of a process
            out = subprocess.run([sys.executable, "-c", MEASURE, *command], check=True, capture_output=True, text=True)
            written = len(media.probe_video(result).times)
            print(f"{frames} frames in, {written} out: peak {int(out.stdout) / 1024:.0f} MiB")


if __name__ == "__main__":
    run_script(main)
