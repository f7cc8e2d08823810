"""Train the network that measures SID and MEF, on the face world's truth alone.

With a model's own ``encoder_params``
(``--config``) the same training gives the *supervised ceiling*: what those encoders could know of a face if they were
told.
"""

from __future__ import annotations

from pathlib import Path

from ..arguments import Parser, number
from ..atomic import check_place
from ..config.files import load_config
from ..errors import UserError, run_script


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="file to write the weights to")
    parser.add_argument("--config", help="train the encoders of this configuration instead: the supervised ceiling")
    sides, many = number(int, 16, 4096), number(int, 16, 10**7)
    parser.add_argument("--size", type=sides, default=128, help="pixels per side; --config has its own")
    parser.add_argument(
        "--people", type=many, default=19200, help="people to learn from; a thousand take 0.2 GB of memory"
    )
    parser.add_argument("--steps", type=many, default=6500, help="training steps, each of 64 pictures")
    parser.add_argument(
        "--workers", type=number(int, 0, 1000), default=0, help="processes that render the people on a CPU"
    )
    parser.add_argument("--resume", choices=("auto",), help="continue the newest run of this kind, if there is one")
    parser.add_argument("--log_dir", default="log", help="folder of the runs")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU, even if there is one")
    args = parser.parse_args()
    params, size = None, args.size
    if args.config is not None:
        config = load_config(args.config)
        params, size = config.model_params.encoder_params, config.dataset_params.frame_shape[0]
        if params is None:
            raise UserError(f"{args.config}: has no model_params.encoder_params: there is nothing to train")
    check_place(args.out)
    # torch is imported here, so that --help answers at once
    from ..training.command import Run
    from .judges.face_meter import METER_PARAMS, save_meter
    from .judges.training import MeterParams, train_meter

    kind = "meter.yaml" if args.config is None else f"ceiling-{Path(args.config).name}"
    run = Run(kind, log_dir=args.log_dir, resume=args.resume, cpu=args.cpu)
    training = MeterParams(steps=args.steps, warmup_steps=args.steps // 10)
    meter = train_meter(
        params or METER_PARAMS, size, args.people, training, run, args.workers, of_model=params is not None
    )
    save_meter(meter, Path(args.out))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    run_script(main)
