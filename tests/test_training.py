"""The training loop as users run it: real processes, killed, resumed, and shared out over two of them."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import scripts
import torch
import yaml
from tiny import tiny, trainer_of, write_tiny

from modules.config.files import config_from_dict
from modules.config.sid import TrainParams
from modules.data.astronaut import write_clips
from modules.sid import objectives
from modules.sid.weights import to_start_from
from modules.training.averages import Average
from modules.training.checkpoint import load_checkpoint, save_checkpoint
from modules.training.log import TrainingLog
from modules.training.schedule import learning_rate_factor

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("DEEPEXPR_KILLS", 2))  # each costs a start of Python
LENGTH = {"train_params.num_repeats": 4 * max(2, KILLS)}  # enough steps to be killed among


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), clips=6, frames=24, size=32, people=4)


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}


def command(config: Path, log_dir: Path, *extra: str) -> list[str]:
    return [str(ROOT / "train_sid.py"), "--config", str(config), "--log_dir", str(log_dir), "--cpu", *extra]


def train(config: Path, log_dir: Path, *extra: str, fresh: bool = False) -> subprocess.CompletedProcess:
    return scripts.run(*command(config, log_dir, *extra), fresh=fresh)


def final_checkpoint(log_dir: Path, epoch: int = 1) -> dict:
    (folder,) = log_dir.iterdir()
    return load_checkpoint(folder / f"{epoch:08d}-checkpoint.pth.tar")


def assert_identical(a: dict, b: dict, path: str = "") -> None:
    assert a.keys() == b.keys(), path
    for key, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[key]), f"{path}{key}"
        elif isinstance(value, dict):
            assert_identical(value, b[key], f"{path}{key}.")
        else:
            assert value == b[key], f"{path}{key}"


def newest(log_dir: Path) -> int:
    """When the last checkpoint was written."""
    return max((path.stat().st_mtime_ns for path in log_dir.glob("*/*-checkpoint.pth.tar")), default=0)


@pytest.fixture(scope="module")
def uninterrupted(clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    config = write_tiny(folder / "tiny.yaml", **{"dataset_params.root_dir": str(clips)} | LENGTH)
    result = train(config, folder / "log", fresh=True)
    assert result.returncode == 0, result.stderr
    return folder / "log"


def test_a_run_writes_what_it_should(uninterrupted):
    (folder,) = uninterrupted.iterdir()
    assert folder.name.startswith("tiny ")
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("events"))
    numbered = ["00000000-checkpoint.pth.tar", "00000001-checkpoint.pth.tar"]
    assert names == [*numbered, "log.jsonl", "log.txt", "tiny.yaml", "train-vis"]
    assert [p.name for p in sorted((folder / "train-vis").iterdir())] == ["00000000-rec.png", "00000001-rec.png"]
    assert any(path.name.startswith("events") for path in folder.iterdir())
    lines = (folder / "log.txt").read_text().splitlines()
    assert [line[:8] for line in lines] == ["00000000", "00000001"]
    assert "perceptual - " in lines[0] and "disc_gan - " in lines[0]
    steps = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in steps] == [0, 1] and steps[-1]["skipped"] == 0
    assert steps[-1]["loss"].keys() >= {"perceptual", "disc_gan"}
    assert steps[-1]["learning_rate"].keys() >= {"optimizer_generator", "optimizer_discriminator"}
    assert all(norm > 0 for norm in steps[-1]["gradient_norm"].values()) and len(steps[-1]["gradient_norm"]) == 2
    assert steps[-1]["samples_per_second"] > 0 and steps[-1]["memory_gib"] > 0
    assert yaml.safe_load((folder / "tiny.yaml").read_text())["train_params"]["batch_size"] == 4


def test_killed_again_and_again_it_ends_bit_identical(clips, uninterrupted, tmp_path):
    """Two workers, augmentation, EMA, adversarial and cycle terms, checkpoints in the middle of epochs, kill -9."""
    changes = {"dataset_params.root_dir": str(clips), "train_params.checkpoint_minutes": 1e-6}
    config = write_tiny(tmp_path / "tiny.yaml", **changes | LENGTH)
    rng = random.Random(0)
    for kills in range(KILLS + 1):
        run = scripts.start(*command(config, tmp_path / "log", "--resume", "auto"), new_session=True)
        if kills == KILLS:
            assert run.wait(timeout=300) == 0
            break
        before = newest(tmp_path / "log")
        while newest(tmp_path / "log") == before:  # at least one more step is done and saved
            assert run.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        assert run.poll() is None, "it ended before it could be killed"
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        for path in (tmp_path / "log").glob("*/*-checkpoint.pth.tar"):
            load_checkpoint(path)  # whatever is there can be read
    expected, actual = final_checkpoint(uninterrupted), final_checkpoint(tmp_path / "log")
    assert_identical(expected, actual)
    (folder,) = (tmp_path / "log").iterdir()
    (reference,) = uninterrupted.iterdir()
    assert (folder / "log.txt").read_text() == (reference / "log.txt").read_text()


def test_learning_rates_rise_fall_along_a_cosine_and_drop_at_milestones():
    def factor(epoch: int, step: int, **params) -> float:
        return learning_rate_factor(TrainParams(**params), epoch, step, 100)

    assert [factor(epoch, 0, epoch_milestones=[2, 5]) for epoch in (1, 2, 5)] == pytest.approx([1, 0.1, 0.01])
    assert [factor(0, step, warmup_steps=3) for step in (0, 1, 3, 99)] == pytest.approx([0.25, 0.5, 1, 1])
    assert [factor(0, step, cosine=True) for step in (0, 25, 50, 100)] == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0])
    assert factor(2, 50, cosine=True, warmup_steps=99, epoch_milestones=[2]) == pytest.approx(0.5 * 0.51 * 0.1)


def test_averages_forget_the_first_steps_of_a_short_run():
    """After n of them the average keeps (1 + n) / (10 + n) of itself, up to the decay; statistics go along."""
    network = torch.nn.BatchNorm1d(3)
    average, expected = Average(network, 0.5), None
    for n in range(12):
        torch.nn.init.constant_(network.weight, float(n))
        network.running_mean.fill_(float(n))
        network.num_batches_tracked.fill_(n)
        average.update(network)
        kept = min(0.5, (1 + n) / (10 + n))
        expected = float(n) if n == 0 else kept * expected + (1 - kept) * n
        for averaged in (average.network.weight, average.network.running_mean):
            torch.testing.assert_close(averaged.detach(), torch.full((3,), expected))
        assert int(average.network.num_batches_tracked) == n
    assert kept == 0.5 and average.updates == 12


def test_a_finished_run_says_so_and_finetune_begins_a_new_one(clips, uninterrupted, tmp_path):
    (folder,) = uninterrupted.iterdir()
    config = write_tiny(tmp_path / "tiny.yaml", **{"dataset_params.root_dir": str(clips), "train_params.num_epochs": 2})
    last = str(folder / "00000001-checkpoint.pth.tar")
    result = train(config, tmp_path / "log", "--checkpoint", last)
    assert result.returncode == 2 and "all 2 epochs are done" in result.stderr
    foreign = {name: value for name, value in load_checkpoint(last).items() if name != "training"}
    save_checkpoint(foreign, tmp_path / "fomm.pth.tar")  # which tells its last epoch alone
    result = train(config, tmp_path / "log", "--checkpoint", str(tmp_path / "fomm.pth.tar"))
    assert result.returncode == 2 and "all 2 epochs are done" in result.stderr
    result = train(config, uninterrupted, "--resume", "auto")  # asked to go on if there is something to go on with
    assert result.returncode == 0 and "nothing left to train" in result.stdout
    values = yaml.safe_load(config.read_text())
    values["train_params"] |= {"cosine": True, "warmup_steps": 1, "num_repeats": 4}
    values["dataset_params"]["num_workers"] = 0
    config.write_text(yaml.safe_dump(values))
    result = train(config, tmp_path / "log", "--checkpoint", last, "--finetune")
    assert result.returncode == 0, result.stderr
    checkpoint = final_checkpoint(tmp_path / "log")
    assert checkpoint["training"]["epoch"] == 2
    (group,), steps = checkpoint["optimizer_generator"]["param_groups"], checkpoint["training"]["step"]
    last_one = (1 + math.cos(math.pi * (steps - 1) / steps)) / 2
    assert steps > 2 and group["lr"] == pytest.approx(TrainParams().lr_generator * last_one)


def test_weights_start_a_run_at_another_frame_size(uninterrupted):
    """The averaged weights, and the blur of the new size: networks that look at a half now look at a quarter."""
    detector = "model_params.kp_detector_params.scale_factor"
    motion = "model_params.generator_params.dense_motion_params.scale_factor"
    config = config_from_dict(tiny(**{"dataset_params.frame_shape": [64, 64, 3], detector: 0.25, motion: 0.25}))
    found = final_checkpoint(uninterrupted)
    learning = objectives.build(config)
    objectives.LAYOUT.load(learning.model, to_start_from(found, config.model_params), "smaller")
    own, averaged = learning.model.kp_detector.state_dict(), found["ema"]["kp_detector"]
    assert own["down.weight"].shape != averaged["down.weight"].shape
    assert all(torch.equal(own[name], value) for name, value in averaged.items() if name != "down.weight")


def test_weights_move_from_plain_to_adversarial_and_to_encoders(tmp_path):
    """FOMM's way: vox-256, then vox-adv-256, whose discriminator is of another kind; and ours: then encoders."""
    plain = {
        "model_params.encoder_params": None,
        "train_params.loss_weights": {"perceptual": 1},
        "train_params.head_probability": 0,
    }
    first = trainer_of(config_from_dict(tiny(**plain)))
    adversarial = trainer_of(
        config_from_dict(
            tiny(
                **plain
                | {
                    "model_params.discriminator_params.sn": False,
                    "train_params.loss_weights": {"perceptual": 1, "generator_gan": 1, "feature_matching": [1, 1]},
                }
            )
        )
    )
    loaded = adversarial.restore(first.state(), "plain")
    assert loaded == ([], ["discriminator"])
    full = trainer_of(config_from_dict(tiny()))
    loaded = full.restore(first.state(), "plain")
    assert loaded.missing and loaded.fresh == ["targets"]
    averaged, current = full.averaged.state_dict(), full.model.state_dict()
    assert all(torch.equal(averaged[name], current[name]) for name in current)


def test_a_finished_run_without_encoders_starts_one_with_them(clips, tmp_path):
    """As FOMM's checkpoints do, with no need to say --finetune: what is new has no position to go on from."""
    plain = {
        "model_params.encoder_params": None,
        "train_params.loss_weights": {"perceptual": 1},
        "train_params.head_probability": 0,
    }
    position = {"epoch": 2, "batches_done": 0, "step": 8, "sums": {}}
    save_checkpoint(
        trainer_of(config_from_dict(tiny(**plain))).state() | {"training": position}, tmp_path / "plain.pth.tar"
    )
    changes = {"dataset_params.root_dir": str(clips), "dataset_params.num_workers": 0, "train_params.num_epochs": 2}
    config = write_tiny(tmp_path / "tiny.yaml", **changes | {"train_params.num_repeats": 2})
    result = train(config, tmp_path / "log", "--checkpoint", str(tmp_path / "plain.pth.tar"))
    assert result.returncode == 0 and "warm start from" in result.stdout, result.stderr


def test_bf16_stays_near_fp32(clips):
    """Coordinates must not be rounded: a step's losses in bfloat16 are those of float32 within its three digits."""
    config = config_from_dict(tiny())
    step = objectives.build(config).generator_step
    batch = {
        "frames": torch.rand(4, 4, 3, 32, 32),
        "times": torch.arange(4.0).expand(4, 4),
        "identity": torch.tensor([0, 1, 2, 0]),
    }
    losses = {}
    for name, enabled in (("fp32", False), ("bf16", True)):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            terms, rendered = copy.deepcopy(step)(batch)
        losses[name] = {term: value.item() for term, value in terms.items()}
        assert rendered.kp_source.value.dtype == rendered.kp_source.jacobian.dtype == torch.float32
        assert rendered.generated.motion.deformation.dtype == torch.float32
    # batch norms over noise amplify rounding of 1/256 a few times
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1, abs=0.02)


def test_sigterm_saves_and_says_how_to_continue(clips, tmp_path):
    """To all of the run's processes, as job schedulers send it: loader processes and their server outlive it."""
    config = write_tiny(
        tmp_path / "tiny.yaml", **{"dataset_params.root_dir": str(clips), "train_params.num_epochs": 500}
    )
    run = scripts.start(*command(config, tmp_path / "log"), cwd=tmp_path, new_session=True)  # run from anywhere
    try:
        deadline = time.monotonic() + 120
        while not any(log.stat().st_size for log in (tmp_path / "log").glob("*/log.txt")):  # the first epoch is done
            assert time.monotonic() < deadline and run.poll() is None
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGTERM)
        _, stderr = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 128 + signal.SIGTERM
    assert "continue with --checkpoint" in stderr and "Traceback" not in stderr
    (latest,) = (tmp_path / "log").glob("*/latest-checkpoint.pth.tar")
    assert load_checkpoint(latest)["training"]["step"] > 0


GRADIENTS = """
import json, os, sys
import torch
from accelerate.utils import broadcast_object_list
from modules.config.files import load_config
from modules.data.sampling import build_loader
from modules.sid import encoder_losses
from modules.sid import objectives
from modules.training.run import build_accelerator
from modules.training.trainer import Trainer

# the colours z_sem sees and the transforms that faces are found after are drawn per process
encoder_losses.colour_view = lambda frames, generator: frames
encoder_losses.similarity_view = lambda frames, generator: (frames, torch.eye(2, 3).expand(len(frames), 2, 3))

config = load_config({config!r})
accelerator = build_accelerator(config.train_params, cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes
loader = build_loader(config.dataset_params, config.train_params, rank=rank, world_size=world)
learning = objectives.build(config)
for p in learning.model.parameters():
    if not p.any():  # the neutral initial values hide what flows through them
        torch.nn.init.normal_(p, std=0.05, generator=torch.Generator().manual_seed(p.numel()))
trainer = Trainer(
    learning.model, objectives.LAYOUT, learning.objectives, loader, config.train_params, accelerator,
    beside=dict(discriminator=learning.discriminator),
)
modules = [update.module for update in trainer.updates]
for module in modules:
    module.eval()  # frozen norms
loader.batch_sampler.set_position(0)
keys = [list(map(int, key)) for batch in loader.batch_sampler for key in batch]
batch = next(iter(loader))
batch.pop("unreadable")
terms, _ = modules[0](batch)
accelerator.backward(torch.stack(list(terms.values())).sum())
gradients = {{n: p.grad for n, p in learning.model.named_parameters() if p.grad is not None}}
gradients = {{name: gradient.clone() for name, gradient in gradients.items()}}
for module in modules:
    module.train()
for batch in loader:
    batch.pop("unreadable")
    trainer.step(batch)
parameters = dict(learning.model.named_parameters()) | dict(learning.discriminator.named_parameters())
parameters = {{name: p.detach() for name, p in parameters.items()}}
torch.save({{"gradients": gradients, "keys": keys, "parameters": parameters}}, f"{out}-{{world}}-{{rank}}.pth")
"""


def test_two_processes_descend_like_one(clips, tmp_path):
    """With frozen norms the gradient of two gloo processes is one process's to 1e-5 of the largest entry.

    Left out is what is drawn at random per process: equivariance, the random views, the head's share, colours.
    """
    drawn = (
        "equivariance_value",
        "equivariance_jacobian",
        "semantic_contrast",
        "expression_invariance",
    )
    changes = {f"train_params.loss_weights.{name}": 0 for name in drawn}
    # the cycle drives everybody by a neighbour within the process's share of the batch
    changes |= {"train_params.loss_weights.cycle_identity": 0, "train_params.loss_weights.cycle_semantics": 0}
    changes |= {"dataset_params.num_workers": 0, "train_params.head_probability": 0}
    config = write_tiny(tmp_path / "tiny.yaml", **{"dataset_params.root_dir": str(clips)} | changes)
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS.format(config=str(config), out=str(tmp_path / "g")))
    alone = scripts.run(script)
    assert alone.returncode == 0, alone.stderr
    together = scripts.run("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", script)
    assert together.returncode == 0, together.stderr
    one = torch.load(tmp_path / "g-1-0.pth", weights_only=True)
    two = [torch.load(tmp_path / f"g-2-{rank}.pth", weights_only=True) for rank in (0, 1)]
    keys = [tuple(key) for part in two for key in part["keys"]]
    assert len(set(keys)) == len(keys)  # no index twice on any rank
    assert set(keys) == {tuple(key) for key in one["keys"]}
    assert one["gradients"].keys() == two[0]["gradients"].keys()
    for name, parameter in two[0]["parameters"].items():  # after an epoch of steps, norms and adversary at work
        assert torch.equal(parameter, two[1]["parameters"][name]), name
    largest = max(float(g.abs().max()) for g in one["gradients"].values())
    for name, gradient in one["gradients"].items():
        assert torch.equal(two[0]["gradients"][name], two[1]["gradients"][name]), name
        assert float((two[0]["gradients"][name] - gradient).abs().max()) <= 1e-5 * max(1.0, largest), name


@pytest.fixture(scope="module")
def damaged(clips, tmp_path_factory) -> Path:
    """The clips, and two more of a person each that break off while they are read."""
    root = tmp_path_factory.mktemp("damaged")
    shutil.copytree(clips, root, dirs_exist_ok=True)
    for name in ("broken1", "broken2"):
        (root / "train" / name).mkdir()
        for i in range(6):
            (root / "train" / name / f"{i}.png").write_bytes(b"not a picture")
    return root


def test_two_processes_share_one_run_name_what_is_damaged_once_and_continue(damaged, tmp_path):
    """``--device_ids 0,1`` on a CPU: two gloo processes, one folder, one log, one cache built by both.

    Two of five items are damaged, and each process meets both clips: the log is rank 0's alone, as over several nodes.
    """
    changes = {
        "dataset_params.root_dir": str(damaged),
        "dataset_params.cache_dir": str(tmp_path / "cache"),
        "dataset_params.num_workers": 0,
        "train_params.num_repeats": 4,
    }
    config = write_tiny(tmp_path / "tiny.yaml", **changes | {"train_params.num_epochs": 1})
    result = train(config, tmp_path / "log", "--device_ids", "0,1")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "2 process(es)" in result.stdout
    (folder,) = (tmp_path / "log").iterdir()
    first = (folder / "log.txt").read_text().splitlines()
    assert [line.split(" so far: ")[0] for line in first[:-1]] == ["# left out, 1", "# left out, 2"]
    assert "broken1" in first[0] and "broken2" in first[1] and first[2].startswith("00000000) ")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 5  # the sound clips of train/
    checkpoint = folder / "00000000-checkpoint.pth.tar"
    position = load_checkpoint(checkpoint)["training"]
    assert position["epoch"] == 1

    write_tiny(config, **changes)  # two epochs
    result = train(config, tmp_path / "log", "--device_ids", "0,1", "--checkpoint", str(checkpoint))
    assert result.returncode == 0, result.stderr[-2000:]
    lines = (folder / "log.txt").read_text().splitlines()
    assert lines[:3] == first and len(lines) == 4 and lines[3].startswith("00000001) ")
    after = final_checkpoint(tmp_path / "log")["training"]
    assert after["epoch"] == 2 and after["step"] == 2 * position["step"]


def test_processes_say_what_is_wrong_with_one_voice(damaged, tmp_path):
    """Found out after the processes were started, by both of them; and by one of them alone."""
    changes = {"dataset_params.root_dir": str(damaged), "train_params.batch_size": 2}
    config = write_tiny(tmp_path / "tiny.yaml", **changes)
    result = train(config, tmp_path / "log", "--device_ids", "0,1")
    assert result.returncode == 2, result.stderr
    assert "leaves one item each" in result.stderr and len(result.stderr.strip().splitlines()) == 1

    script = tmp_path / "one.py"
    script.write_text(ONE_FAILS)
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        f"import sys\nfrom modules.training.launch import spawn\nsys.argv = [{str(script)!r}]\nspawn(2)"
    )
    result = scripts.run(launcher, timeout=60)
    assert result.returncode == 2 and result.stderr.strip() == "error: of the second alone", result.stderr


ONE_FAILS = """
import os, sys, time
from modules.errors import UserError, run_script
from modules.training.launch import one_voice

@one_voice()
def main():
    if os.environ["RANK"] == "1":
        raise UserError("of the second alone")
    time.sleep(60)

run_script(main)
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_params.root_dir": "nowhere"}, "nowhere"),
        ({"train_params.lr_genrator": 1e-4}, "train_params.lr_genrator"),
        ({"train_params.perceptual_network": {"weights": "imagenet", "path": "vgg.pth"}}, "vgg.pth: no such file"),
        ({"train_params.batch_size": 5}, "batch_size 5 cannot be shared by 2 processes"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(clips, tmp_path, change, message):
    """Found out before processes are started: one line, however many there would be."""
    config = write_tiny(tmp_path / "tiny.yaml", **{"dataset_params.root_dir": str(clips)} | change)
    result = train(config, tmp_path / "log", "--device_ids", "0,1")
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "log").exists()


def test_the_bar_ends_where_the_clock_will_end_it(tmp_path):
    with TrainingLog(tmp_path, 10**6, 5, 0) as log:
        for _ in range(3):
            time.sleep(0.05)
            log.advance(left=2.0)
        assert 8 <= log.bar.total <= 8 + 2.0 / 0.05
    with TrainingLog(tmp_path, 10, 5, 0) as log:
        log.advance(left=10.0**6)
        assert log.bar.total == 10  # the epochs end first
