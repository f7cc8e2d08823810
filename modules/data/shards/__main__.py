"""Write a folder of portraits as tar shards, which MEF's training reads from disks, https:// and object stores."""

from __future__ import annotations

from pathlib import Path

from ...arguments import Parser, number
from ...errors import run_script
from ..portraits import read_portraits
from .writing import write_shards


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--portraits", metavar="DIR", required=True, help="folder with metadata.jsonl")
    parser.add_argument("--split", default="train", help="of its folders, if it has such (default: train)")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="new folder for the shards")
    parser.add_argument("--each", type=number(int, 1, 10**6), default=1000, help="portraits in a shard (default: 1000)")
    args = parser.parse_args()
    portraits, bad = read_portraits(args.portraits, args.split)
    files = write_shards(portraits, args.out, args.each)
    size = sum(path.stat().st_size for path in files) / 2**20
    name = files[0] if len(files) == 1 else args.out / f"portraits-{{00000..{len(files) - 1:05d}}}.tar"
    print(f"{name}: {len(portraits)} portraits, {size:.1f} MiB; {len(bad)} are left out")


if __name__ == "__main__":
    run_script(main)
