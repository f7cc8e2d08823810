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

Each run is a folder, <out>/<seed>/<name>; what is done is not done again, what was interrupted goes on.  Several
processes may share the work by ``--parts``, ablations after SID.  Time is the processors' on a CPU (set
OMP_NUM_THREADS=1 and give each process a core: waiting threads count too) and the clock's with a GPU, where processes
that share it lengthen each other's: there one at a time.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from modules.arguments import Parser, number
from modules.atomic import replacing, write_text
from modules.config.files import config_from_dict
from modules.config.sid import Config
from modules.data.frames import FrameDataset
from modules.devices import best_device
from modules.errors import UserError, run_script
from modules.evaluation import disentanglement
from modules.evaluation.evaluate import embeddings_of, measured_by
from modules.evaluation.judges.face_meter import find_meter
from modules.evaluation.output import write_json
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
CHECKPOINT, SETTINGS, SPENT = "checkpoint.pth.tar", "settings.yaml", "seconds.json"  # of a run


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
        if "sid" in parts:
            runs.sid()
        if "ablations" in parts and seed in args.ablated_seeds:
            runs.ablations()
    if "table" in parts:
        show(args.out, args.seeds)


class Runs:
    """The runs of one seed: a folder each, with ``settings.yaml``, the checkpoint and, when done, ``done.json``."""

    def __init__(self, args: argparse.Namespace, seed: int):
        self.args, self.seed, self.folder = args, seed, (args.out / str(seed)).resolve()
        self.base = yaml.safe_load((ROOT / "config" / "synthetic-64.yaml").read_text(encoding="utf-8"))
        self.base["evaluate_params"] = {"pairs": args.pairs, "probe_people": args.probe_people}
        config = _config(self.base)
        self.params, self.size = config.evaluate_params, config.dataset_params.frame_shape[0]
        self.measured = measured_by(self.params, find_meter(None), self.size)

    def fomm(self) -> None:
        """The long run, and from before its rates fall, a shorter one's end."""
        short = sum(map(self.epochs, RENDERED.values()))
        long = max(self.epochs(EQUAL_TIME), short)
        kept = _decays(short)
        self.train(FOMM_TIME, self.settings(FOMM_TIME, long, checkpoint_freq=kept))
        before = self.folder / FOMM_TIME / "before.pth.tar"  # apart from its run: what goes on from it is another
        if not before.is_file():
            with replacing(before) as whole:
                shutil.copy(_newest(self.folder / FOMM_TIME / "log", f"{kept - 1:08d}-"), whole)
        seconds = self.result(FOMM_TIME)["seconds"] * kept / long
        self.train(FOMM_STEPS, self.settings(FOMM_STEPS, short), before, resumed=seconds)
        for name in (FOMM_TIME, FOMM_STEPS):
            self.evaluate(name)

    def sid(self) -> None:
        self.train("keypoints", self.settings("keypoints", RENDERED["keypoints"]))
        self.train("encoders", self.settings("encoders", ENCODERS), self.checkpoint("keypoints"))
        self.teach(self.checkpoint("encoders"))
        self.train("generator", self.settings("generator", RENDERED["generator"]), self.checkpoint("expressions"))
        self.evaluate("generator")

    def ablations(self) -> None:
        """One thing left out at a time: of the encoders to see what they still tell, of the generator what it shows."""
        encoders = {BRIEFLY: None} | {f"encoders without {term}": term for term in ABLATED["encoders"]}
        for name, term in encoders.items():
            self.train(name, self.settings("encoders", ABLATED_ENCODERS, without=term), self.checkpoint("keypoints"))
        self.embeddings(list(encoders))
        for term in ABLATED["generator"]:
            settings = self.settings("generator", RENDERED["generator"], without=term)
            self.train(f"generator without {term}", settings, self.checkpoint("expressions"))
            self.evaluate(f"generator without {term}")

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

    def train(self, name: str, settings: Settings, start: Path | None = None, resumed: float | None = None) -> None:
        """A run of train_sid.py from the weights of ``start``; or on from its position, which took so many seconds."""

        def run(file: Path) -> Path:
            log = self.folder / name / "log"
            on = [] if start is None else ["--checkpoint", start, *(["--finetune"] if resumed is None else [])]
            if _newest(log) is None:
                file.with_name(SPENT).unlink(missing_ok=True)
            else:
                on = ["--resume", "auto"]
            with _counted(file.with_name(SPENT)):
                _run("train_sid.py", "--config", file, "--log_dir", log, *on)
            return _newest(log)

        # decoding is nobody's training time
        FrameDataset(_config(settings).dataset_params, seed=self.seed, progress=True).prepare_cache(progress=True)
        self._once(name, settings, start, run, resumed)

    def teach(self, start: Path) -> None:
        """Expressions, on the clips with resting heads."""
        settings = self.settings("generator", RENDERED["generator"])
        settings["dataset_params"]["root_dir"] = [{"path": str(self.args.calm), "weight": 1}]
        steps = max(20, round(TAUGHT * self.args.length))

        def run(file: Path) -> Path:
            made = file.with_name("taught.pth")
            file.with_name(SPENT).unlink(missing_ok=True)  # it always begins anew
            command = ("-m", "modules.sid.expressions", "--config", file, "--checkpoint", start, "--out", made)
            with _counted(file.with_name(SPENT)):
                _run(*command, "--steps", steps, "--seed", self.seed)
            return made

        self._once("expressions", settings, start, run, more=steps)

    def _once(
        self,
        name: str,
        settings: Settings,
        start: Path | None,
        run: Callable[[Path], Path],
        resumed: float | None = None,
        more: Any = None,
    ) -> None:
        """``run(settings.yaml)`` unless that was done; refuse what was done otherwise.

        Its seconds are counted with those of the run that it starts from, or those it is told to go on from.
        """
        folder = self.folder / name
        if start is not None and resumed is None and not (start.parent / DONE).is_file():
            raise UserError(f"{start.parent}: is not done yet; run the parts before this one first")
        of, begun = _digest(settings, more, start), folder / "of.json"
        if begun.is_file() and json.loads(begun.read_text(encoding="utf-8")) != of:
            raise UserError(f"{folder}: was begun with other settings or from another start; remove it")
        if (folder / DONE).is_file():
            return
        file = folder / SETTINGS
        write_text(file, yaml.safe_dump(settings))
        write_json(begun, of)
        if resumed is None:
            resumed = 0.0 if start is None else self.result(start.parent.name)["seconds"]
        made = run(file)
        with replacing(folder / CHECKPOINT) as whole:
            shutil.copy(made, whole)
        seconds = resumed + json.loads((folder / SPENT).read_text(encoding="utf-8"))
        count = sum(p.numel() for p in _load(folder).parameters())  # of the networks inference uses
        write_json(folder / DONE, {"seconds": seconds, "parameters": count})

    def evaluate(self, name: str) -> None:
        """Pictures and embeddings, unless that is done."""
        if self.is_measured(name):
            return
        folder = self.folder / name
        settings = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
        config, evaluate_params = folder / "evaluate.yaml", self.base["evaluate_params"]
        config.write_text(yaml.safe_dump(settings | {"evaluate_params": evaluate_params}), encoding="utf-8")
        _run("run.py", "--mode", "evaluate", "--config", config, "--checkpoint", folder / CHECKPOINT)

    def embeddings(self, names: list[str]) -> None:
        """What encoders that show nothing yet tell, all of the same pictures."""
        embeds = {name: embeddings_of(_load(self.folder / name)) for name in names if not self.is_measured(name)}
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

    def checkpoint(self, name: str) -> Path:
        return self.folder / name / CHECKPOINT

    def result(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name / DONE).read_text(encoding="utf-8"))


def _digest(settings: Settings, more: Any, start: Path | None) -> str:
    """What a run's results depend on."""
    data = {k: v for k, v in settings["dataset_params"].items() if k not in ("cache_dir", "num_workers")}
    began = start and hashlib.sha256(start.read_bytes()).hexdigest()
    of = json.dumps([settings | {"dataset_params": data}, more, began], sort_keys=True)
    return hashlib.sha256(of.encode()).hexdigest()


def _newest(log: Path, name: str = "*-") -> Path | None:
    """The last checkpoint of a run."""
    found = log.glob(f"*/{name}checkpoint.pth.tar")
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _decays(epochs: int) -> int:
    return min(epochs - 1, round(DECAY * epochs))


def _config(settings: Settings) -> Config:
    return config_from_dict(settings, where="benchmarks/comparison.py")


def _load(folder: Path) -> SID:
    """A run's model, ready to use."""
    settings = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    return prepare_model(_config(settings).model_params, folder / CHECKPOINT, best_device(cpu=False))


@contextmanager
def _counted(file: Path) -> Iterator[None]:
    """Add the seconds of what is done inside to those in ``file``, also where it ends early."""
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else 0.0
    began = _seconds()
    try:
        yield
    finally:
        write_json(file, before + _seconds() - began)


def _seconds() -> float:
    """Of all commands so far: a GPU's by the clock, a CPU's by the processor, which other work does not lengthen."""
    if torch.cuda.is_available():
        return time.monotonic()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(*command: object) -> None:
    print("$", *command, flush=True)
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT)
    try:
        status = process.wait()
    except SystemExit:  # told to stop: the command may have something to save
        process.terminate()
        process.wait()
        raise
    except KeyboardInterrupt:  # which it has got as well
        process.wait()
        raise
    if status:
        raise SystemExit(status)  # the command has said why


if __name__ == "__main__":
    run_script(main)
