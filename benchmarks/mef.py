"""What MEF costs at Stable Diffusion 1.5's size, with random weights, and how good its estimates of x0 are.

    python -m benchmarks.mef adapters    a denoising step with both adapters (mid + up), or a branch, over a plain one
    python -m benchmarks.mef cache       a training step that encodes picture and text anew over a cached one
    python -m benchmarks.mef memory      peak memory of one training step
    python -m benchmarks.mef estimators  the bundled base's estimates of x0, decoded: errors by noise level, and cost
    python -m benchmarks.mef heard       what folders of adapters or of a branch (--checkpoint) make of faces never seen
    python -m benchmarks.mef portrait    a portrait, 512 x 512 pixels, 30 steps, bf16, on a GPU: seconds and peak memory

Ratios are medians over ``--rounds`` in which both kinds alternate, in one process; but for the portrait's, seconds are
CPU seconds of all its threads together (set OMP_NUM_THREADS=1), so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch.utils.data import default_collate
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from modules import media
from modules.arguments import Parser
from modules.config.files import (
    load_config,
    mef_config_from_dict,
)
from modules.config.mef import AdapterParams, BaseParams
from modules.data.astronaut import moving_face
from modules.devices import dtype_of
from modules.errors import run_script
from modules.evaluation import portrait_tasks as portraits
from modules.evaluation.people import render_all
from modules.mef import objectives
from modules.mef.adapters import attach_new
from modules.mef.base import quiet, training_noise
from modules.mef.branch import new_branch
from modules.mef.cache.shards import Cache
from modules.mef.conditions import Widths
from modules.mef.dataset import PortraitDataset
from modules.mef.embeddings import Embedder, SIDEncoders
from modules.mef.estimators import estimate_clean
from modules.mef.frozen import FrozenNetworks
from modules.mef.pipeline import DeepExprPipeline
from modules.mef.train import embedding_sample, read_tables
from modules.training.averages import Average

ROOT = Path(__file__).resolve().parent.parent

SID = ROOT / "config" / "sid-128.yaml"
WIDTHS = Widths(128, 80)
ESTIMATORS = ("one_step", "midpoint", "ddim-3", "ddim-4")  # midpoint is ddim-2
LEVELS = (50, 100, 200, 300, 400, 600, 800)  # of noise
ESTIMATED, HEARD = 48, 40  # portraits
HEARD_LEVELS = (100, 400, 700)


def random_unet(dtype: torch.dtype) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's, 859.52 M parameters."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    return _filled(unet, dtype)


def _filled(network: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A network made on no device, with small random weights: its usual initialisation takes a minute."""
    with quiet():
        network = network.to(dtype).to_empty(device="cpu")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return network.eval().requires_grad_(False)


def random_base(dtype: torch.dtype) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 with random weights, and a tokenizer that knows letters."""
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, merges=[], model_max_length=77)
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            eos_token_id=1,
            bos_token_id=0,
            pad_token_id=1,
        )
    )
    return StableDiffusionPipeline(
        vae=_filled(vae, torch.float32),
        text_encoder=text.to(dtype).eval(),
        tokenizer=tokenizer,
        unet=random_unet(dtype),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
    )


def write_data(folder: Path, count: int) -> None:
    """Portraits, and an untrained SID."""
    lines = []
    for i, image in enumerate(moving_face(0, count, 512)):
        media.write_image(folder / f"{i}.png", image)
        lines.append(json.dumps({"file_name": f"{i}.png", "text": "a portrait of a woman", "identity": "anna"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def build(folder: Path, precision: str, batch: int, cached: bool) -> tuple[objectives.Learning, PortraitDataset]:
    values = {
        "dataset_params": {"root_dir": str(folder), "resolution": 512, "cache_dir": str(folder / "cache")},
        "model_params": {
            "base_params": {"path": "random"},
            "sid_params": {"config": str(SID), "checkpoint": str(SID)},
        },
        "train_params": {"batch_size": batch, "precision": precision, "ema_decay": 0.9999},
        "validation_params": {"prompts": ["a portrait"], "identities": [], "expressions": []},
    }
    config = mef_config_from_dict(values)
    sid = load_config(SID)
    encoders = SIDEncoders(sid.model_params.encoder_params, sid.dataset_params.frame_shape[:2])
    frozen = FrozenNetworks(random_base(dtype_of(precision)), Embedder(encoders), 512)
    tables, _ = read_tables(config)
    cache = None
    if cached:
        cache = Cache(config, tables)
        cache.build(cache.missing(), frozen)
    dataset = PortraitDataset(tables, frozen.latent_shape, 1000, config.train_params, cache)
    return objectives.build(config, frozen, dataset, embedding_sample(cache, tables, frozen)), dataset


def alternate(first: Callable[[], None], second: Callable[[], None], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the rounds' ratios second / first; one round to warm up."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        marks = [time.process_time()]
        for work in (first, second):
            work()
            marks.append(time.process_time())
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    one, other = zip(*times[1:], strict=True)
    ratio = statistics.median(b / a for a, b in times[1:])
    return statistics.median(one), statistics.median(other), ratio


@torch.no_grad()
def adapters(rounds: int, side: int) -> None:
    unet = random_unet(torch.float32)
    with torch.device("meta"):
        plain = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    plain.load_state_dict(unet.state_dict(), assign=True)  # the same memory
    sizes = (AdapterParams(),) * 2
    both = attach_new(unet, WIDTHS, sizes, ["mid", "up"])
    branch = new_branch(SimpleNamespace(unet=plain, vae_scale_factor=8), WIDTHS, sizes, "plain")
    noisy, text = torch.randn(2, 4, side, side), torch.randn(2, 77, 768)  # both halves of guidance
    embeds = {"image_embeds": [torch.randn(2, 1, width) for width in WIDTHS]}

    def step(network: UNet2DConditionModel) -> None:
        network(noisy, 500, text, added_cond_kwargs=embeds)

    def step_with_branch() -> None:
        with branch.acting(plain):
            step(plain)

    for name, conditions, work in (("adapters", both, partial(step, unet)), ("branch", branch, step_with_branch)):
        one, other, ratio = alternate(partial(step, plain), work, rounds)
        count = sum(p.numel() for p in conditions.trainable()) / 1e6
        print(
            f"{name}: {count:.1f} M parameters to train; denoising step, {side} x {side} latents, fp32: "
            f"plain {one:.2f} s, with {name} {other:.2f} s, ratio {ratio:.3f}"
        )


def cache(rounds: int, batch: int, precision: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, max(2, batch))
        learning, dataset = build(folder, precision, batch, cached=True)
        step, (optimizer,) = learning.step, learning.objectives[0].optimizers.values()
        items = default_collate([dataset[0, i] for i in range(batch)])
        computed = {"mean", "deviation", "face", "text_states", "identity", "expression"}
        bare = {key: value for key, value in items.items() if key not in computed}

        works = [partial(train_step, step, optimizer, rows, precision) for rows in (items, bare)]
        cached, anew, ratio = alternate(*works, rounds)
    print(
        f"training step, batch {batch}, {precision}: cached {cached:.2f} s, encoding anew {anew:.2f} s, "
        f"ratio {ratio:.2f}"
    )


def train_step(step: torch.nn.Module, optimizer: torch.optim.Optimizer, rows: dict, precision: str) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        terms, _ = step(rows)
    terms["diffusion"].backward()
    optimizer.step()


def memory(batch: int, precision: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, batch)
        learning, dataset = build(folder, precision, batch, cached=True)
        step, (optimizer,) = learning.step, learning.objectives[0].optimizers.values()
        items = default_collate([dataset[0, i] for i in range(batch)])
        before = peak()
        start = time.process_time()
        train_step(step, optimizer, items, precision)
        Average(learning.adapters, 0.9999).update(learning.adapters)
    seconds = time.process_time() - start
    print(f"training step, batch {batch}, {precision}: peak {peak():.2f} GiB ({before:.2f} before it), {seconds:.0f} s")


class Portrayed:
    """People of the face world never seen: their portraits, captions and faces as a saved pipeline reads them."""

    def __init__(self, checkpoint: Path, count: int):
        self.pipeline = DeepExprPipeline.from_pretrained(checkpoint, crop=False, cpu=True)
        base, asked = self.pipeline.base, portraits.ask(count, 1)
        self.vae, self.noise = base.vae.requires_grad_(False), training_noise(base)
        self.unet, self.adapters = base.unet, self.pipeline.adapters
        size = self.vae.config.sample_size
        source, driver, truth = (
            render_all(faces, size, "rendering")[0] for faces in (asked.source, asked.driver, asked.truth)
        )
        self.embeds = [z[:, None] for z in portraits.embed(self.pipeline, asked, source, driver)]
        with torch.no_grad():
            self.states, _ = base.encode_prompt(asked.prompts(), "cpu", 1, False)
            self.clean = self.vae.encode(truth / 127.5 - 1).latent_dist.mode() * self.vae.config.scaling_factor
        self.drawn = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(0))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1]."""
        return (self.vae.decode(latents / self.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

    def predict(
        self, noisy: torch.Tensor, steps: torch.Tensor, given: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """What the UNet predicts of the first portraits, under their own embeddings unless others are ``given``."""
        rows = slice(len(noisy))
        embeds = {"image_embeds": [z[rows] for z in given or self.embeds]}
        with self.adapters.acting(self.unet):
            return self.unet(noisy, steps, self.states[rows], added_cond_kwargs=embeds).sample


def estimators(rounds: int) -> None:
    """Of portraits noised and estimated under their own captions and embeddings, by the bundled base and adapters."""
    people = Portrayed(ROOT / "MEF_Checkpoints" / "adapters", ESTIMATED)
    noise, sid = people.noise, people.pipeline.embedder.sid

    def estimate(name: str, noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        first = people.predict(noisy, steps)
        return people.decode(estimate_clean(noise, name, noisy, first, steps, people.predict))

    with torch.no_grad():
        pictures = people.decode(people.clean)
        wanted = sid(pictures)
    print(f"{ESTIMATED} portraits; L1 of pixels (0-255) | 1 - cosine of z_id | RMS of z_sem: errors")
    for level in LEVELS:
        steps = torch.full((ESTIMATED,), level)
        noisy = noise.add_noise(people.clean, people.drawn, steps)
        for name in ESTIMATORS:
            with torch.no_grad():
                found = estimate(name, noisy, steps)
                identity, semantics = sid(found)
            pixels = float((found - pictures).abs().mean()) * 255
            person = float(1 - torch.nn.functional.cosine_similarity(identity, wanted[0]).mean())
            face = float((semantics - wanted[1]).square().mean().sqrt())
            print(f"t {level:3d}  {name:8s}  {pixels:5.1f} | {person:.3f} | {face:.3f}")
    part = noise.add_noise(people.clean, people.drawn, steps)[:4]
    trained = [p.requires_grad_(True) for p in people.adapters.parameters()]
    for name in ESTIMATORS:
        seconds = []
        for _ in range(rounds + 1):
            start = time.process_time()
            torch.autograd.grad(estimate(name, part, steps[:4]).mean(), trained, allow_unused=True)
            seconds.append((time.process_time() - start) / len(part))
        print(f"{name:8s}  {statistics.median(seconds[1:]):.3f} CPU s a picture, decoder and gradients included")


@torch.no_grad()
def heard(checkpoints: list[Path]) -> None:
    """How much better the UNet predicts portraits of people never seen for being told who and which expression.

    The mean squared error of the prediction at several noise levels, without adapters or branch, with embeddings of
    zeros, their own, and other people's: one number each, so that forms can be compared after the same training.
    """
    for checkpoint in checkpoints:
        people = Portrayed(checkpoint, HEARD)
        none = [torch.zeros_like(z) for z in people.embeds]
        someone = [z.roll(1, dims=0) for z in people.embeds]
        identity, expression = people.embeds
        ways: dict[str, tuple[float, list[torch.Tensor]]] = {
            "base": (0.0, none),
            "none": (1.0, none),
            "own": (1.0, people.embeds),
            "other person": (1.0, [someone[0], expression]),
            "other expression": (1.0, [identity, someone[1]]),
        }
        errors = dict.fromkeys(ways, 0.0)
        for level in HEARD_LEVELS:
            steps = torch.full((HEARD,), level)
            noisy = people.noise.add_noise(people.clean, people.drawn, steps)
            is_v = people.noise.config.prediction_type == "v_prediction"
            target = people.noise.get_velocity(people.clean, people.drawn, steps) if is_v else people.drawn
            for name, (scale, given) in ways.items():
                people.adapters.set_scales(people.pipeline.base, scale, scale)
                error = (people.predict(noisy, steps, given) - target).square().mean()
                errors[name] += float(error) / len(HEARD_LEVELS)
        told = ", ".join(f"{name} {error:.5f}" for name, error in errors.items())
        print(f"{checkpoint}: error of the prediction, {HEARD} portraits at t = {HEARD_LEVELS}: {told}")


def portrait(rounds: int) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("portrait: needs a GPU")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, 2)
        stage, _ = build(folder, "bf16", 1, cached=False)
        faces = [media.read_image(folder / f"{i}.png") for i in range(2)]
    frozen = stage.step.frozen
    pipeline = DeepExprPipeline(frozen.base, stage.adapters, frozen.embedder, BaseParams(path="random"))
    pipeline.to("cuda", torch.bfloat16)
    pipeline.base.set_progress_bar_config(disable=True)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        pipeline("a portrait of a woman", *faces, num_inference_steps=30, height=512, width=512)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    device, gigabytes = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated() / 2**30
    print(
        f"portrait, 512 x 512, 30 steps, bf16, guided, {device}: {statistics.median(seconds[1:]):.2f} s "
        f"(the first {seconds[0]:.1f} s), {gigabytes:.2f} GiB allocated at most"
    )


def peak() -> float:
    """The process's largest resident size so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = Parser(__doc__.splitlines()[0])
    parser.add_argument(
        "what", choices=["adapters", "cache", "estimators", "heard", "memory", "portrait"], help="what is measured"
    )
    parser.add_argument("--rounds", type=int, default=5, help="repetitions; the median is reported")
    parser.add_argument("--batch_size", type=int, default=1, help="batch size of a training step")
    help_ = "of the frozen networks, of cache and memory; the configurations' own is the default"
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16", help=help_)
    parser.add_argument("--latents", type=int, default=64, help="side of the denoising step's latents")
    known = [ROOT / "MEF_Checkpoints" / "adapters"]
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=known, help="folders of adapters, of heard")
    args = parser.parse_args()
    if args.what == "adapters":
        adapters(args.rounds, args.latents)
    elif args.what == "cache":
        cache(args.rounds, args.batch_size, args.precision)
    elif args.what == "estimators":
        estimators(args.rounds)
    elif args.what == "heard":
        heard(args.checkpoint)
    elif args.what == "portrait":
        portrait(args.rounds)
    else:
        memory(args.batch_size, args.precision)


if __name__ == "__main__":
    run_script(main)
