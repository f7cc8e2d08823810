"""Train SID on a data set, rebuild its test clips, animate them by one another, or measure it on the face world."""

from __future__ import annotations

import argparse

from modules.errors import UserError, run_script


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file, such as config/vox-256.yaml")
    modes = ["train", "reconstruction", "animate", "evaluate"]
    parser.add_argument("--mode", choices=modes, default="train", help="what to do")
    parser.add_argument("--checkpoint", help="to continue from, rebuild with or animate with")
    parser.add_argument("--resume", help="train: 'auto' continues this configuration's newest run, if there is one")
    parser.add_argument("--finetune", action="store_true", help="train: take only the checkpoint's weights: a new run")
    parser.add_argument("--log_dir", default="log", help="folder of the training runs")
    parser.add_argument("--device_ids", help="devices to use, one process each when training, such as 0,1")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.mode == "train":
        from modules.sid.train import train

        train(args.config, args.checkpoint, args.log_dir, args.device_ids, args.resume, args.finetune, args.cpu)
        return
    if args.checkpoint is None:
        raise UserError(f"--mode {args.mode} needs --checkpoint")

    from modules.config import load_config
    from modules.evaluation.animation import animate_pairs
    from modules.evaluation.evaluate import evaluate
    from modules.evaluation.reconstruction import reconstruct
    from modules.launch import device_list, select_devices

    select_devices(device_list(args.device_ids), args.cpu)
    work = {"reconstruction": reconstruct, "animate": animate_pairs, "evaluate": evaluate}[args.mode]
    work(load_config(args.config), args.checkpoint, args.cpu)


if __name__ == "__main__":
    run_script(main)
