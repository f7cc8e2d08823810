"""SID against plain FOMM, and what SID's terms are worth, at 64 x 64 pixels: same data, same seeds, rendered truth.

    python benchmarks/comparison.py --out log/comparison --clips data/world --calm data/calm \
        --stills data/world-stills/stills [--photos data/photos] [--seeds 0 1 2] [--ablated_seeds 0 1] [--epochs 1]

FOMM is as large as SID (the numbers of parameters are printed), and trained on the same clips in one run.  SID is
trained in the four steps of config/synthetic-128-adv.yaml; FOMM's run goes on until it has taken SID's time (equal
time), and is looked at when its generator has seen as many batches as SID's (equal steps).  An ablation leaves one
term, or the stills, out of one of SID's steps and takes the others from the same seed.  What was trained already, in
``--out``, is not trained again; ``--epochs`` multiplies the length of every run.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from torch import Tensor  # noqa: E402

from modules.arguments import number  # noqa: E402
from modules.config import load_config  # noqa: E402
from modules.evaluation import disentanglement, reenactment  # noqa: E402
from modules.evaluation.bootstrap import interval  # noqa: E402
from modules.evaluation.meter import load_meter  # noqa: E402
from modules.evaluation.output import table, write_json  # noqa: E402
from modules.evaluation.ruler import calibrate  # noqa: E402
from modules.sid.inference import best_device, prepare_model  # noqa: E402
from modules.sid.model import SID  # noqa: E402

Config = dict[str, Any]
EPOCHS = {"keypoints": 5, "encoders": 12, "generator": 6}  # of all people once, at --epochs 1
TEACHING = 1500  # batches that teach expressions
SID_ENCODERS = {  # as config/synthetic-128-adv.yaml's, for faces of half as many pixels
    "identity_dim": 64, "expression_dim": 24, "pose_dim": 60, "block_expansion": 24, "max_features": 72,
    "num_blocks": 3, "face_pixels": 32, "own_expression": True, "mirrored_identity": True, "head_features": 128,
}
WIDER = {"block_expansion": 24, "max_features": 120}  # FOMM's networks, to have SID's number of parameters
WIDER_GENERATOR = {"block_expansion": 24, "max_features": 88}
PICTURES = {"perceptual": [4, 4, 2, 1, 1], "pixel": 50}
KEYPOINTS = PICTURES | {"equivariance_value": 10, "equivariance_jacobian": 10, "keypoint_prior": 2}
ENCODERS = {
    "perceptual": [0] * 5, "equivariance_value": 0, "equivariance_jacobian": 0, "placement": 5, "congealing": 1,
    "identity_contrast": 1, "pose_equivariance": 5, "independence": 0.2, "motion_value": 20, "motion_jacobian": 1,
}
GENERATOR = PICTURES | {
    "face": 2, "equivariance_value": 0, "equivariance_jacobian": 0, "semantic_flow": 1, "motion_value": 20,
    "motion_jacobian": 1,
}
METER = ROOT / "SID_Checkpoints" / "face-meter.pth"
SIZE, FRAMES, PEOPLE, TEACHERS = 64, 10, 200, 300
SHOWN = ("PSNR", "SSIM", "CSIM", "pose", "AU", "identity")
KNOWN = {  # what embeddings know: row and figure
    "z_id rank1": ("z_id", "rank1"), "z_sem rank1": ("z_sem", "rank1"), "z_sem action units": ("z_sem", "action units"),
    "z_sem yaw": ("z_sem", "yaw"), "z_sem pitch": ("z_sem", "pitch"), "z_sem roll": ("z_sem", "roll"),
}
ABLATED = {  # step, term
    "encoders": ("identity_contrast", "pose_equivariance", "independence", "congealing", "stills"),
    "generator": ("face", "semantic_flow"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of all runs, tables and figures")
    add("--clips", required=True, help="data set of the face world, as modules.data.synthetic writes it")
    add("--calm", required=True, help="another one, made with --calm 1")
    add("--stills", required=True, help="its stills")
    add("--photos", help="photographs of real people, name#photo.jpg")
    add("--cache_dir", help="of decoded frames; left out: <out>/cache")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--ablated_seeds", type=int, nargs="*", default=[0, 1])
    add("--epochs", type=number(float, 0.01, 1000), default=1.0, help="times the length of every run")
    add("--pairs", type=number(int, 2, 10000), default=40, help="of source and driver")
    add("--only", choices=("fomm", "sid", "measure"), help="a part of the work, for several processes")
    args = parser.parse_args()
    if args.only in (None, "sid"):
        for seed in args.seeds:
            Runs(args, seed).sid()
        for seed in args.ablated_seeds:
            Runs(args, seed).ablations()
    if args.only in (None, "fomm"):
        for seed in args.seeds:
            Runs(args, seed).fomm()
    if args.only in (None, "measure"):
        measure(args)


class Runs:
    """The runs of one seed, ``<out>/<seed>/<name>.pth`` each with ``.yaml`` and ``.json`` (seconds) beside it."""

    def __init__(self, args: argparse.Namespace, seed: int):
        self.args, self.seed, self.folder = args, seed, args.out / str(seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.whole = yaml.safe_load((ROOT / "config" / "synthetic-64.yaml").read_text(encoding="utf-8"))
        self.whole["dataset_params"]["cache_dir"] = args.cache_dir or str(args.out / "cache")

    def fomm(self) -> None:
        """Once for as many batches as SID's generator saw, once for as long as all of SID's runs took."""
        names = ("keypoints", "encoders", "expressions", "generator")
        seconds = sum(self.seconds(name) for name in names)
        epochs = EPOCHS["keypoints"] + EPOCHS["generator"]
        steps = self.train("fomm-steps", self.config("fomm", KEYPOINTS, epochs))
        left = seconds - self.seconds("fomm-steps")
        more = max(1, round(left / self.seconds("fomm-steps") * epochs))
        self.train("fomm-time", self.config("fomm", KEYPOINTS, epochs + more), steps, finetune=False)

    def sid(self) -> None:
        self.train("keypoints", self.config("keypoints", KEYPOINTS, EPOCHS["keypoints"]))
        self.after("encoders", "encoders", ENCODERS, "")

    def ablations(self) -> None:
        for step, terms in ABLATED.items():
            for term in terms:
                losses = (ENCODERS if step == "encoders" else GENERATOR) | ({} if term == "stills" else {term: 0})
                self.after(step, f"{step}", losses, f" without {term}")

    def after(self, step: str, name: str, losses: dict[str, Any], which: str) -> None:
        """A step of SID's and those that follow from it."""
        if step == "encoders":
            config = self.config("encoders", losses, EPOCHS["encoders"], stills="stills" not in which)
            self.train(f"encoders{which}", config, self.folder / "keypoints.pth")
            self.teach(f"expressions{which}", self.folder / f"encoders{which}.pth")
            losses = GENERATOR
        start = self.folder / f"expressions{which if step == 'encoders' else ''}.pth"
        self.train(f"generator{which}", self.config("generator", losses, EPOCHS["generator"]), start)

    def config(self, kind: str, losses: dict[str, Any], epochs: float, stills: bool = True) -> Config:
        """The configuration of a run: config/synthetic-64.yaml with the encoders of today."""
        config, args = copy.deepcopy(self.whole), self.args
        data, model, train = config["dataset_params"], config["model_params"], config["train_params"]
        roots = {args.clips: 5, args.calm: 3}
        if kind == "encoders":
            roots = {args.clips: 5} | ({args.stills: 7} if stills else {})
        if args.photos is not None:
            roots[args.photos] = 1
        data["root_dir"] = [{"path": str(path), "weight": weight} for path, weight in roots.items()]
        data |= {"frames_per_video": 2, "elsewhere_frame": kind == "encoders"}
        model["encoder_params"] = dict(SID_ENCODERS)
        if kind in ("fomm", "keypoints"):
            del model["encoder_params"]
            train["head_probability"] = 0
        if kind == "fomm":
            model["kp_detector_params"] |= WIDER
            model["generator_params"] |= WIDER_GENERATOR
            model["generator_params"]["dense_motion_params"] |= WIDER
        train |= {
            "seed": self.seed, "num_repeats": 1, "num_epochs": max(1, round(epochs * args.epochs)),
            "checkpoint_freq": 10**6, "checkpoint_minutes": 60, "visualize_every": 10**6, "loss_weights": losses,
        }
        train["epoch_milestones"] = [e for e in [round(0.8 * train["num_epochs"])] if 0 < e < train["num_epochs"]]
        if kind == "encoders":
            train |= {"batch_size": 64, "rendered_share": 0, "lr_generator": 0, "lr_kp_detector": 0}
        if kind == "generator":
            train |= {"lr_kp_detector": 0, "lr_encoders": 0, "lr_motion_head": 1e-3, "head_probability": 0.7}
        return config

    def train(self, name: str, config: Config, start: Path | None = None, finetune: bool = True) -> Path:
        """Train ``<name>.pth``, unless it is there."""
        weights, log = self.folder / f"{name}.pth", self.folder / f"log {name}"
        if weights.is_file():
            return weights
        settings = self.folder / f"{name}.yaml"
        settings.write_text(yaml.safe_dump(config), encoding="utf-8")
        more = [] if start is None else ["--checkpoint", start, *(["--finetune"] if finetune else [])]
        seconds = self.run("train_sid.py", "--config", settings, "--log_dir", log, *more)
        if start is not None and not finetune:
            seconds += self.seconds(start.stem)
        made = max(log.glob("*/*-checkpoint.pth.tar"), key=lambda path: path.stat().st_mtime)
        made.replace(weights)
        (self.folder / f"{name}.json").write_text(json.dumps({"seconds": seconds}))
        return weights

    def teach(self, name: str, encoders: Path) -> None:
        """Teach expressions on the clips with resting heads."""
        weights, settings = self.folder / f"{name}.pth", self.folder / f"{name}.yaml"
        if weights.is_file():
            return
        config = self.config("generator", GENERATOR, 1)
        config["dataset_params"]["root_dir"] = [{"path": str(self.args.calm), "weight": 1}]
        settings.write_text(yaml.safe_dump(config), encoding="utf-8")
        steps = max(20, round(TEACHING * self.args.epochs))
        seconds = self.run(
            "-m", "modules.sid.expressions", "--config", settings, "--checkpoint", encoders, "--out", weights,
            "--steps", steps, "--seed", self.seed,
        )
        (self.folder / f"{name}.json").write_text(json.dumps({"seconds": seconds}))

    def run(self, *command: object) -> float:
        """Run one of the project's commands; processor seconds would flatter what waits for its loader."""
        print(self.seed, *command, flush=True)
        started = time.monotonic()
        if status := subprocess.run([sys.executable, *map(str, command)], cwd=ROOT).returncode:
            raise SystemExit(status)  # the command has said why
        return time.monotonic() - started

    def seconds(self, name: str) -> float:
        return json.loads((self.folder / f"{name}.json").read_text())["seconds"]


def measure(args: argparse.Namespace) -> None:
    """Every checkpoint on the same rendered pairs and people; ``<out>/comparison.json`` and a table."""
    ruler = calibrate(load_meter(METER), SIZE, 16, 2)
    pairs = reenactment.render_pairs(SIZE, args.pairs, FRAMES)
    models, rows = {}, defaultdict(list)
    for path in sorted(args.out.glob("*/*.pth")):
        if path.stem.startswith(("fomm", "generator")):
            params = load_config(path.with_suffix(".yaml")).model_params
            model = models[path.parent.name, path.stem] = prepare_model(params, path, best_device())
            for mode in reenactment.modes(model):
                values = reenactment.measure(model, mode, pairs, ruler)
                rows[f"{path.stem}, {mode.name}"] += [{name: row[name] for name in SHOWN} for row in values]
            count = sum(p.numel() for part, p in model.named_parameters() if not part.startswith("discriminator"))
            print(f"{path}: {count / 1e6:.2f} M parameters", flush=True)
    embeds = {key: partial(_embed, model) for key, model in models.items() if model.encoders is not None}
    known = disentanglement.measure(embeds, SIZE, PEOPLE, FRAMES, TEACHERS)
    trivial = reenactment.trivial(pairs, ruler)
    rows |= {name: [{column: row[column] for column in SHOWN} for row in values] for name, values in trivial.items()}
    means = {row: {name: mean(value[name] for value in values) for name in SHOWN} for row, values in rows.items()}
    spread = {
        row: {name: interval([value[name] for value in values]) for name in SHOWN} for row, values in rows.items()
    }
    knows = defaultdict(list)
    for key in sorted(embeds):
        figures = known[key].figures
        knows[key[1]].append({name: figures[row][column] for name, (row, column) in KNOWN.items()})
    write_json(args.out / "comparison.json", {"reenactment": means, "intervals": spread, "embeddings": knows})
    print(table(["", *SHOWN], [[row, *(f"{value:.3f}" for value in values.values())] for row, values in means.items()]))
    for step, seeds in knows.items():
        print(step, {name: " ".join(f"{seed[name]:.3f}" for seed in seeds) for name in KNOWN})


def _embed(model: SID, images: Tensor) -> tuple[Tensor, Tensor]:
    return model.encoders.identity(images), model.encoders.semantic(images).cat()


if __name__ == "__main__":
    main()
