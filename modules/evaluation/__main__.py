"""Train SID on a data set, rebuild its test clips, animate them by one another; measure it or MEF on the face world."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..arguments import number, training_options, training_parser
from ..errors import UserError, run_script


def parse() -> argparse.Namespace:
    parser = training_parser(__doc__, "config/vox-256.yaml")
    modes = ["train", "reconstruction", "animate", "evaluate", "compare-real"]
    parser.add_argument("--mode", choices=modes, default="train", help="what to do")
    clips = "compare-real: folder of clips or photographs of real people, PERSON#NUMBER.mp4"
    parser.add_argument("--real_faces", metavar="DIR", help=clips)
    pairs = "compare-real: pairs of source and driver at most, drawn at random; without it all"
    parser.add_argument("--pairs", type=number(int, 1, 10**9), metavar="N", help=pairs)
    what = (
        "reconstruction, animate, compare-real: cut the faces out of all clips, or of none (default: of clips that are "
        "not close already, where the configuration has framing_params)"
    )
    mesh = "reconstruction, animate, compare-real: by a head fitted to each source, and no model"
    parser.add_argument("--motion", choices=["mesh"], help=mesh)
    parser.add_argument("--crop", action=argparse.BooleanOptionalAction, help=what)
    args = parser.parse_args()
    if (args.mode == "compare-real") != (args.real_faces is not None):
        parser.error("--mode compare-real and --real_faces DIR go together")
    if args.pairs is not None and args.real_faces is None:
        parser.error("--pairs is for --mode compare-real")
    if args.crop is not None and args.mode in ("train", "evaluate"):
        parser.error(f"--{'' if args.crop else 'no-'}crop is not for --mode {args.mode}")
    if args.motion is not None and args.mode == "train":
        parser.error("--motion mesh is not for --mode train")
    if args.motion is not None and args.mode == "evaluate":
        # there are no embeddings, and motion that is smoothed over three frames would be over half a second
        lacks = "it has no embeddings, and smooths away what a face does at 5 frames a second"
        parser.error(f"--mode evaluate cannot measure --motion mesh: {lacks}; use --mode compare-real")
    if args.motion is not None and args.checkpoint is not None:
        parser.error("--motion mesh needs no --checkpoint; leave one of the two out")
    return args


def evaluate(args: argparse.Namespace) -> None:
    """Measure SID or MEF on the face world."""
    from ..config.files import load_config, load_mef_config, stage_of
    from ..config.schema import read_yaml
    from ..devices import device_list, select_devices
    from ..training.checkpoint_file import check_file

    if stage_of(read_yaml(args.config)) != "MEF":
        config = load_config(args.config)
        check_file(args.checkpoint)
        select_devices(device_list(args.device_ids), args.cpu)
        from .evaluate import evaluate as evaluate_sid

        evaluate_sid(config, args.checkpoint, args.cpu)
        return
    mef = load_mef_config(args.config)
    select_devices(device_list(args.device_ids), args.cpu)
    from .evaluate_faces import evaluate_faces
    from .evaluate_mef import evaluate_mef

    if mef.model_params.inpaint_params is not None:
        evaluate_faces(mef, args.checkpoint, args.cpu)
    else:
        evaluate_mef(args.config, args.checkpoint, args.cpu)


def main() -> None:
    args = parse()
    if args.mode == "train":
        from ..config.files import load_animation_config
        from ..training.command import Run, check_run

        config, run = load_animation_config(args.config), Run(**training_options(args))
        check_run(run)
        from ..sid.train import train

        train(config, run)
        return
    by_mesh = args.motion == "mesh"
    if args.checkpoint is None and not by_mesh:
        raise UserError(f"--mode {args.mode} needs --checkpoint")

    if args.mode == "evaluate":
        evaluate(args)
        return

    from ..config.files import load_animation_config
    from ..data.clips import entries_of
    from ..devices import best_device, device_list, select_devices
    from ..training.checkpoint_file import check_file

    config = load_animation_config(args.config)
    if not by_mesh:
        check_file(args.checkpoint)
    if args.real_faces is not None:
        entries_of(Path(args.real_faces), "all")
    select_devices(device_list(args.device_ids), args.cpu)

    from ..sid.inference import Animated, prepare
    from ..sid.inference import by_mesh as mesh_moves
    from ..sid.motion_options import MotionOptions
    from .animation import animate_pairs
    from .compare_real import compare_real
    from .framed import ClipFraming
    from .output import evaluation_folder
    from .reconstruction import reconstruct

    device = best_device(args.cpu)
    framed = ClipFraming(config, args.crop, args.cpu)
    if by_mesh:
        # the first frame, which is rebuilt from, is the driver's as well: what changes since then is all there is
        since = args.mode == "reconstruction"
        out = Path(args.log_dir) / "mesh"

        def moves(options: MotionOptions) -> Animated:
            return mesh_moves(replace(options, relative=options.relative or since), args.cpu)

    else:
        moves, out = prepare(config, args.checkpoint, device), Path(args.checkpoint).parent
    if args.mode == "compare-real":
        out = out / "compare-real" if by_mesh else evaluation_folder(args.checkpoint, "compare-real")
        compare_real(config, moves, framed, out, device, args.real_faces, args.pairs)
        return
    work = {"reconstruction": reconstruct, "animate": animate_pairs}[args.mode]
    work(config, moves, framed, out, device)


if __name__ == "__main__":
    run_script(main)
