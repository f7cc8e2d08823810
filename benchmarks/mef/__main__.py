"""What MEF costs, and how good parts of it are.

    python -m benchmarks.mef adapters    a denoising step with both adapters (mid + up), or a branch, over a plain one
    python -m benchmarks.mef cache       a training step that encodes picture and text anew over a cached one
    python -m benchmarks.mef memory      peak memory of one training step
    python -m benchmarks.mef portrait    a portrait, 512 x 512 pixels, 30 steps, bf16, on a GPU: seconds and peak memory
    python -m benchmarks.mef estimators  the bundled base's estimates of x0, decoded: errors by noise level, and cost
    python -m benchmarks.mef heard       what folders of adapters or of a branch (--checkpoint) make of faces never seen
    python -m benchmarks.mef cost        seconds per 1,000 pictures of caching, training and drawing, bundled base, CPU

The first four are of Stable Diffusion 1.5's size, with random weights.  Seconds are CPU seconds of all threads together
(set OMP_NUM_THREADS=1), so that other work on the machine does not count; but for cost's and portrait's.
"""

from __future__ import annotations

from pathlib import Path

from modules.arguments import Parser
from modules.errors import run_script

from . import cost, estimates, steps


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    what = ["adapters", "cache", "cost", "estimators", "heard", "memory", "portrait"]
    parser.add_argument("what", choices=what, help="what is measured")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions; the median is reported")
    parser.add_argument("--batch_size", type=int, default=1, help="batch size of a training step")
    help_ = "of the frozen networks, of cache and memory; the configurations' own is the default"
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16", help=help_)
    parser.add_argument("--latents", type=int, default=64, help="side of the denoising step's latents")
    known = [estimates.BUNDLED]
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=known, help="folders of adapters, of heard")
    parser.add_argument("--pictures", type=int, default=128, help="of cost")
    args = parser.parse_args()
    if args.what == "adapters":
        steps.adapters(args.rounds, args.latents)
    elif args.what == "cache":
        steps.cache(args.rounds, args.batch_size, args.precision)
    elif args.what == "cost":
        cost.cost(args.pictures)
    elif args.what == "estimators":
        estimates.estimators(estimates.bundled(), args.rounds)
    elif args.what == "heard":
        estimates.heard(args.checkpoint)
    elif args.what == "portrait":
        steps.portrait(args.rounds)
    else:
        steps.memory(args.batch_size, args.precision)


if __name__ == "__main__":
    run_script(main)
