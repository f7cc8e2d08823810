"""SID against plain FOMM of the same size, and what SID's terms are worth, on the face world at 64 x 64 pixels.

    python -m modules.data.synthetic --out data/world --identities 1600 --clips 2 --frames 12 --fps 2.5 --size 64 \\
        --format frames
    python -m modules.data.synthetic --out data/calm --identities 3830 --clips 1 --frames 12 --fps 2.5 --calm 1 \\
        --seed 1 --prefix q --size 64 --format frames
    python -m modules.data.synthetic --out data/world-stills --identities 1600 --clips 0 --stills 6 --size 64
    python -m benchmarks.comparison --out log/comparison --clips data/world --calm data/calm \\
        --stills data/world-stills/stills

SID is trained in the four steps of config/synthetic-128-adv.yaml: key points (FOMM's own training), encoders,
expressions, generator.  FOMM, with the same options of its networks and of its losses but no encoders, is trained on
the same clips for the sum of the epochs in which SID renders ("equal steps"), and for more ("equal time": SID's,
encoders and all; the table shows both times).  Only SID's encoders see the stills: pictures of one person in different
scenes are no pairs to render.  Every model is then measured by run.py --mode evaluate, on the same people and pairs.

``--parts ablations``: the generator's step without one of its terms; and encoders without one of theirs, or without the
stills, which are trained half as long, as are those with everything that they are set against.  What these tell is
measured as --mode evaluate does; they show nothing yet.

All runs of a seed are one recipe (:mod:`modules.recipe`) in <out>/<seed>: what is done is not done again, what was
interrupted goes on.  Time is the processors' on a CPU (set
OMP_NUM_THREADS=1: waiting threads count too) and the clock's with a GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from modules.arguments import Parser, number
from modules.config.files import config_from_dict
from modules.config.sid import Config
from modules.data.frames import FrameDataset
from modules.devices import best_device
from modules.errors import UserError, run_script
from modules.evaluation import disentanglement
from modules.evaluation.evaluate import embeddings_of, measured_by
from modules.evaluation.judges.face_meter import find_meter
from modules.evaluation.output import write_json
from modules.recipe.reading import Recipe, Step, recipe_from
from modules.recipe.running import Kept, run_recipe
from modules.sid.inference import prepare_model
from modules.sid.model import SID

from .comparison_table import BRIEFLY, DONE, FOMM_STEPS, FOMM_TIME, METRICS, show

ROOT = Path(__file__).resolve().parent.parent

Settings = dict[str, Any]
RENDERED = {"keypoints": 4, "generator": 5}  # epochs of SID's steps that render, at --length 1
ENCODERS = 45  # epochs: of fewer batches, and larger ones
EQUAL_TIME = 15  # epochs of FOMM's longer run
ABLATED_ENCODERS = 22  # epochs of encoders that something is left out of, and of those to compare them with
TAUGHT = 1500  # batches that teach expressions
DECAY = 0.8  # of a run's epochs are at full rates, the others at a tenth
ENCODER_PARAMS = {  # config/synthetic-128-adv.yaml's, for half the pixels
    "identity_dim": 64,
    "expression_dim": 24,
    "pose_dim": 60,
    "block_expansion": 24,
    "max_features": 72,
    "num_blocks": 3,
    "face_pixels": 32,
    "own_expression": True,
    "mirrored_identity": True,
    "head_features": 128,
}
# FOMM gets as many numbers as SID has with its encoders: most of them where maps are small and cost little time, some
# for its pictures, whose steps take longer by them.
WIDER_HOURGLASS, WIDER_GENERATOR = {"max_features": 192}, {"block_expansion": 24, "max_features": 96}
PICTURES = {"perceptual": [4, 4, 2, 1, 1], "pixel": 50}
MOTION = {"motion_value": 20, "motion_jacobian": 1}
NOTHING = {"equivariance_value": 0, "equivariance_jacobian": 0}
LOSSES = {
    "keypoints": PICTURES | {"equivariance_value": 10, "equivariance_jacobian": 10, "keypoint_prior": 2},
    "encoders": NOTHING
    | MOTION
    | {
        "perceptual": [0] * 5,
        "placement": 5,
        "congealing": 1,
        "identity_contrast": 1,
    },
    "generator": PICTURES | NOTHING | MOTION | {"face": 2},
}
STILLS = "stills"
ABLATED = {  # what is left out of a step
    "encoders": ("identity_contrast", "congealing", STILLS),
    "generator": ("face",),
}
CHECKPOINT = "checkpoint.pth"  # of a run, as exported
FOMM_START = "fomm"  # what both of FOMM's runs begin with


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of all runs and of comparison.json")
    add("--clips", type=Path, required=True, help="data set of the face world, as modules.data.synthetic writes it")
    add("--calm", type=Path, required=True, help="another one, made with --calm 1")
    add("--stills", type=Path, required=True, help="a folder of stills, for the encoders")
    add("--seeds", type=number(int, 0, 2**31), nargs="+", default=[0, 1, 2], help="seeds of the trainings")
    add("--ablated_seeds", type=number(int, 0, 2**31), nargs="*", default=[0, 1], help="those of --seeds to ablate")
    add("--length", type=number(float, 0.01, 1000), default=1.0, help="factor on the epochs of every run")
    add("--workers", type=number(int, 0, 1000), default=0, help="loader processes of a run; 0 where it has one core")
    add("--pairs", type=number(int, 2, 10000), default=50, help="pairs of source and driver to measure on")
    add("--probe_people", type=number(int, 16, 10**6), default=500, help="people to fit the probes on")
    add("--parts", choices=("fomm", "sid", "ablations", "table"), nargs="+", help="parts of the work (default: all)")
    args = parser.parse_args()
    for name in ("clips", "calm", "stills"):
        setattr(args, name, getattr(args, name).resolve())
        if not getattr(args, name).is_dir():
            raise UserError(f"--{name} {getattr(args, name)}: no such folder")
    parts = args.parts or ("fomm", "sid", "ablations", "table")
    for seed in args.seeds:
        runs = Runs(args, seed)
        if "fomm" in parts:
            runs.fomm()
        if "sid" in parts or "ablations" in parts:
            runs.sid()
        if "ablations" in parts and seed in args.ablated_seeds:
            runs.ablations()
        runs.run()
    if "table" in parts:
        show(args.out, args.seeds)


class Runs:
    """The runs of one seed, as steps of a recipe; what is added by its methods :meth:`run` does."""

    def __init__(self, args: argparse.Namespace, seed: int):
        self.args, self.seed, self.folder = args, seed, (args.out / str(seed)).resolve()
        self.base = yaml.safe_load((ROOT / "config" / "synthetic-64.yaml").read_text(encoding="utf-8"))
        self.base["evaluate_params"] = {"pairs": args.pairs, "probe_people": args.probe_people}
        config = _config(self.base)
        self.params, self.size = config.evaluate_params, config.dataset_params.frame_shape[0]
        self.measured = measured_by(self.params, find_meter(None), self.size)
        self.steps: list[dict[str, Any]] = []
        self.unseen: list[str] = []  # runs of encoders alone, which show nothing

    def fomm(self) -> None:
        """Full rates to where the shorter run's fall; from there both runs."""
        short = sum(map(self.epochs, RENDERED.values()))
        long, kept = max(self.epochs(EQUAL_TIME), short), _decays(short)
        self.train(FOMM_START, self.settings(FOMM_TIME, kept, epoch_milestones=[]))
        for name, epochs in ((FOMM_STEPS, short), (FOMM_TIME, long)):
            self.train(name, self.settings(name, epochs), resume=FOMM_START)
            self.evaluate(name)

    def sid(self) -> None:
        self.train("keypoints", self.settings("keypoints", RENDERED["keypoints"]))
        self.train("encoders", self.settings("encoders", ENCODERS), start="keypoints")
        self.teach("encoders")
        self.train("generator", self.settings("generator", RENDERED["generator"]), start="expressions")
        self.evaluate("generator")

    def ablations(self) -> None:
        """One thing left out at a time: of the encoders to see what they still tell, of the generator what it shows."""
        encoders = {BRIEFLY: None} | {f"encoders without {term}": term for term in ABLATED["encoders"]}
        for name, term in encoders.items():
            self.train(name, self.settings("encoders", ABLATED_ENCODERS, without=term), start="keypoints")
            self.export(name)
        self.unseen += encoders
        for term in ABLATED["generator"]:
            name, settings = (
                f"generator without {term}",
                self.settings("generator", RENDERED["generator"], without=term),
            )
            self.train(name, settings, start="expressions")
            self.evaluate(name)

    def epochs(self, usual: int) -> int:
        return max(2, round(usual * self.args.length))

    def settings(self, step: str, epochs: int, without: str | None = None, **more: Any) -> Settings:
        """A run's configuration: config/synthetic-64.yaml with the networks and terms of its step."""
        settings, args = copy.deepcopy(self.base), self.args
        data, model, train = settings["dataset_params"], settings["model_params"], settings["train_params"]
        encoders, fomm = step == "encoders", step in (FOMM_STEPS, FOMM_TIME)
        roots = {args.clips: 5, args.calm: 3}
        if encoders:
            roots = {args.clips: 4} if without == STILLS else {args.clips: 4, args.stills: 7}
        data |= {
            "root_dir": [{"path": str(path), "weight": weight} for path, weight in roots.items()],
            "frames_per_video": 2,
            "elsewhere_frame": encoders,
            "cache_dir": str(args.out.resolve() / "cache"),
            "num_workers": args.workers,
        }
        model["encoder_params"] = dict(ENCODER_PARAMS)
        if fomm or step == "keypoints":
            del model["encoder_params"]
        if fomm:
            model["kp_detector_params"] |= WIDER_HOURGLASS
            model["generator_params"] |= WIDER_GENERATOR
            model["generator_params"]["dense_motion_params"] |= WIDER_HOURGLASS
        whole = epochs if fomm else self.epochs(epochs)
        losses = LOSSES["keypoints" if fomm else step] | ({without: 0} if without not in (None, STILLS) else {})
        train |= {
            "seed": self.seed,
            "num_repeats": 1,
            "num_epochs": whole,
            "epoch_milestones": [_decays(whole)],
            "checkpoint_freq": whole,
            "checkpoint_minutes": 10,
            "visualize_every": whole,
            "loss_weights": losses,
            "head_probability": 0.7 if step == "generator" else 0,
        }
        if encoders:
            # an epoch has as many batches with the stills as without
            train |= {"batch_size": 64, "rendered_share": 0, "lr_generator": 0, "lr_kp_detector": 0}
            train["num_repeats"] = 2 if without == STILLS else 1
        if step == "generator":
            train |= {"lr_kp_detector": 0, "lr_encoders": 0, "lr_motion_head": 1e-3}
        return settings | {"train_params": train | more}

    def train(self, name: str, settings: Settings, start: str | None = None, resume: str | None = None) -> None:
        """A run of train_sid.py, from the weights of ``start`` or on from where ``resume`` ended."""
        begun = {"start": start, "resume": resume}
        self.steps.append({"name": name, "run": "sid", "share": 0, "config": settings} | begun)

    def teach(self, start: str) -> None:
        """Expressions, on the clips with resting heads."""
        settings = self.settings("generator", RENDERED["generator"])
        settings["dataset_params"]["root_dir"] = [{"path": str(self.args.calm), "weight": 1}]
        steps = max(20, round(TAUGHT * self.args.length))
        command = f"sid.expressions --checkpoint {{{start}}} --out {{out}} --steps {steps} --seed {self.seed}"
        self.steps.append(
            {"name": "expressions", "run": command, "makes": "taught.pth", "share": 0, "config": settings}
        )

    def export(self, name: str) -> None:
        """What inference needs, into the run's own folder."""
        command = f"sid.export --config '{{{name}.config}}' --checkpoint '{{{name}}}' --out {{out}}"
        self.steps.append({"name": f"export {name}", "run": command, "makes": f"../{name}/{CHECKPOINT}"})

    def evaluate(self, name: str) -> None:
        """Pictures and embeddings."""
        self.export(name)
        settings = next(step["config"] for step in self.steps if step["name"] == name)
        config = settings | {"evaluate_params": self.base["evaluate_params"]}
        command = f"evaluation --mode evaluate --checkpoint '{{export {name}}}'"
        made = f"../{name}/{METRICS}"
        self.steps.append({"name": f"evaluate {name}", "run": command, "makes": made, "config": config})

    @property
    def recipe(self) -> Recipe:
        return recipe_from({"minutes": 1, "steps": self.steps}, Path("benchmarks/comparison.py"))

    def run(self) -> None:
        """Do all steps; of every run that is measured, write what it cost."""
        if not self.steps:
            return
        recipe = self.recipe
        for step in recipe.steps:
            if step.run == "sid":  # decoding is nobody's training time
                data = _config(recipe.configs[step.name]).dataset_params
                FrameDataset(data, seed=self.seed, progress=True).prepare_cache(progress=True)
        run_recipe(recipe, self.folder)
        self.embeddings(self.unseen)
        records, steps = Kept(self.folder).records, {step.name: step for step in recipe.steps}
        for step in recipe.steps:
            if step.name.startswith("export "):
                name = step.name.removeprefix("export ")
                clock = "seconds" if torch.cuda.is_available() else "cpu_seconds"
                seconds = sum(getattr(records[each], clock) for each in lineage(steps, name))
                count = sum(p.numel() for p in self.model(name).parameters())  # of the networks inference uses
                write_json(self.folder / name / DONE, {"seconds": seconds, "parameters": count})

    def embeddings(self, names: list[str]) -> None:
        """What encoders that show nothing yet tell, all of the same pictures."""
        embeds = {name: embeddings_of(self.model(name)) for name in names if not self.is_measured(name)}
        if not embeds:
            return
        params = self.params
        found = disentanglement.measure(embeds, self.size, params.people, params.frames, params.probe_people)
        for name, known in found.items():
            figures = {"disentanglement": {"model": known.figures}, "each": {"model": known.each}}
            write_json(self.folder / name / METRICS, {"measured": self.measured} | figures)

    def is_measured(self, name: str) -> bool:
        """By this measuring network, on as many pairs and people."""
        metrics = self.folder / name / METRICS
        return metrics.is_file() and json.loads(metrics.read_text(encoding="utf-8"))["measured"] == self.measured

    def model(self, name: str) -> SID:
        """A run's model, ready to use."""
        settings = yaml.safe_load((self.folder / name / f"{name}.yaml").read_text(encoding="utf-8"))
        return prepare_model(_config(settings).model_params, self.folder / name / CHECKPOINT, best_device(cpu=False))


def lineage(steps: dict[str, Step], name: str) -> list[str]:
    """A run and all that it came from, one from the other."""
    step = steps[name]
    before = step.start or step.resume or ("encoders" if name == "expressions" else None)
    return [name, *([] if before is None else lineage(steps, before))]


def _decays(epochs: int) -> int:
    return min(epochs - 1, round(DECAY * epochs))


def _config(settings: Settings) -> Config:
    return config_from_dict(settings, where="benchmarks/comparison.py")


if __name__ == "__main__":
    run_script(main)
