"""Train MEF: identity and expression adapters for a frozen Stable Diffusion, from captioned portraits."""

from __future__ import annotations

import argparse

from modules.errors import run_script


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file, such as config/mef-sd15.yaml")
    parser.add_argument("--checkpoint", help="continue from this checkpoint")
    parser.add_argument("--resume", help="'auto' continues this configuration's newest run, if there is one")
    parser.add_argument("--finetune", action="store_true", help="take only the checkpoint's weights: a new run")
    parser.add_argument("--log_dir", default="log", help="folder of the runs")
    parser.add_argument("--device_ids", help="devices to use, one process each, such as 0,1")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU even if there is a GPU")
    return parser.parse_args()


def main() -> None:
    args = parse()
    from modules.mef.train import train

    train(args.config, args.checkpoint, args.log_dir, args.device_ids, args.resume, args.finetune, args.cpu)


if __name__ == "__main__":
    run_script(main)
