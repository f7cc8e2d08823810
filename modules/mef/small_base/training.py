"""Training the two parts of a small base on captioned pictures: autoencoder first, then text encoder and denoiser."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from diffusers.training_utils import compute_snr
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import CLIPTokenizer

from modules import checkpoint as files
from modules import media, runs
from modules.atomic import writing_errors
from modules.config import LoopParams, PerceptualParams, config_to_dict
from modules.data.portraits import Portrait, read_portraits
from modules.data.sampling import loader_of
from modules.errors import UserError
from modules.mef.base import quiet
from modules.mef.small_base import networks
from modules.mef.small_base.config import SmallBaseConfig, load_small_base_config
from modules.mef.stage import warmed_up
from modules.sid.animator import to_images, to_tensor
from modules.sid.perceptual import build_perceptual, feature_distance
from modules.training import Loaded, Phase, Trainer

SHOWN = 8  # pictures of a training picture
BATCH = 16  # pictures encoded together
SAMPLE = 1024  # pictures whose latents tell their spread
VAE = "vae"  # folder of the autoencoder in the base's, as diffusers names it
SHOWN_STEPS = 20  # of the samples shown in training
SHOWN_GUIDANCE = 3.0

Batch = dict[str, Tensor]


class PartStage:
    """One network, one phase, averaged weights; see :class:`modules.training.Stage`.  Subclasses draw the picture."""

    def __init__(
        self, config: SmallBaseConfig, step: nn.Module, network: nn.Module, params: LoopParams,
        optimizer: torch.optim.Optimizer,
    ):
        self.config, self.step, self.network = config, step, network
        self.phases = [Phase(step, {"optimizer": optimizer})]
        self.ema = None
        if params.ema_decay is not None:
            self.ema = AveragedModel(network, multi_avg_fn=warmed_up(params.ema_decay))

    @property
    def averaged(self) -> nn.Module:
        """The network to use."""
        return self.network if self.ema is None else self.ema.module

    def to(self, device: torch.device) -> None:
        self.step.to(device)
        if self.ema is not None:
            self.ema.to(device)

    def after_step(self) -> None:
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def state(self) -> dict[str, Any]:
        entries: dict[str, Any] = {"network": self.network.state_dict(), "small_base": config_to_dict(self.config)}
        if self.ema is not None:
            entries |= {"ema": self.ema.module.state_dict(), "ema_updates": int(self.ema.n_averaged)}
        return entries

    def load(self, checkpoint: dict[str, Any], path: str | os.PathLike) -> Loaded:
        """Take over a checkpoint's network.  Raises UserError for one of another part or configuration."""
        files.restore(self.network, checkpoint.get("network"), f"{path}: network")
        if self.ema is not None:
            files.restore(self.ema.module, checkpoint.get("ema") or checkpoint["network"], f"{path}: ema")
            self.ema.n_averaged.fill_(checkpoint.get("ema_updates", 0))
        return Loaded([], [])


# --------------------------------------------------------------------------------------------------------- autoencoder


class Pictures(Dataset):
    """The portraits' pictures, items ``{"image": float32 [3, H, W] in [-1, 1]}``, and noise of their own."""

    def __init__(self, portraits: list[Portrait], resolution: int, latent_shape: tuple[int, ...], params: LoopParams):
        self.portraits, self.resolution, self.latent_shape = portraits, resolution, latent_shape
        self.seed, self.repeats = params.seed, params.num_repeats

    def __len__(self) -> int:
        return len(self.portraits) * self.repeats

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        image = read_picture(self.portraits[index % len(self.portraits)], self.resolution)
        rng = np.random.default_rng([self.seed, epoch, index])
        return {"image": image, "posterior_noise": _normal(rng, self.latent_shape)}


def read_picture(portrait: Portrait, resolution: int) -> Tensor:
    """float32 ``[3, H, W]`` in [-1, 1]."""
    return to_tensor([media.fit(media.read_image(portrait.image), resolution, resolution)])[0] * 2 - 1


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


class AutoencoderStep(nn.Module):
    """``{"image", "posterior_noise"} -> losses``: pixels, features, and the posterior's divergence (Rombach et al.,
    2022, section 3.1, without the adversarial part)."""

    def __init__(self, autoencoder: AutoencoderKL, config: SmallBaseConfig):
        super().__init__()
        self.autoencoder, self.params = autoencoder, config.autoencoder_train_params
        self.perceptual = build_perceptual(PerceptualParams(weights="small"))

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Batch]:
        image = batch["image"]
        posterior = self.autoencoder.encode(image).latent_dist
        made = self.autoencoder.decode(posterior.mean + posterior.std * batch["posterior_noise"]).sample
        shown, wanted = made / 2 + 0.5, image / 2 + 0.5
        features = feature_distance(self.perceptual(wanted), self.perceptual(shown), [1.0] * 5)
        terms = {
            "pixel": (made - image).abs().mean(),
            "perceptual": self.params.perceptual * features,
            "divergence": self.params.divergence * posterior.kl().mean(),
        }
        return terms, {"image": image.detach(), "made": made.detach()}


class AutoencoderStage(PartStage):
    """See :class:`PartStage`."""

    def __init__(self, config: SmallBaseConfig):
        params = config.autoencoder_train_params
        torch.manual_seed(params.seed)
        network = networks.build_autoencoder(config.model_params.autoencoder_params, config.dataset_params.resolution)
        optimizer = torch.optim.AdamW(network.parameters(), lr=params.lr)
        super().__init__(config, AutoencoderStep(network, config), network, params, optimizer)

    def picture(self, hand_over: Batch) -> Tensor:
        """Pictures above what the autoencoder makes of them."""
        rows = [torch.cat(list(hand_over[name][:SHOWN].float().cpu()), dim=2) for name in ("image", "made")]
        return _as_bytes(torch.cat(rows, dim=1))


def _as_bytes(image: Tensor) -> Tensor:
    """uint8 ``[H, W, 3]`` of ``[3, H, W]`` in [-1, 1]."""
    return torch.from_numpy(to_images((image[None] / 2 + 0.5).clamp(0, 1))[0])


# ------------------------------------------------------------------------------------------------------------ denoiser


class Latents(Dataset):
    """What the autoencoder makes of the portraits, in memory, with captions as tokens and everything random.

    Items: ``mean``, ``deviation``, ``noise``, ``posterior_noise`` ``[C, h, w]``, ``tokens [77]``, ``timestep``.
    """

    def __init__(self, rows: Batch, tokens: Tensor, no_text: Tensor, timesteps: int, config: SmallBaseConfig):
        self.rows, self.tokens, self.no_text, self.timesteps = rows, tokens, no_text, timesteps
        self.params = config.denoiser_train_params

    def __len__(self) -> int:
        return len(self.tokens) * self.params.num_repeats

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        rng = np.random.default_rng([self.params.seed, epoch, index])
        row = index % len(self.tokens)
        shape = tuple(self.rows["mean"].shape[1:])
        return {
            **{name: column[row].float() for name, column in self.rows.items()},
            "tokens": self.no_text if rng.random() < self.params.text_dropout else self.tokens[row],
            "timestep": int(rng.integers(self.timesteps)),
            "noise": _normal(rng, shape),
            "posterior_noise": _normal(rng, shape),
        }


@torch.no_grad()
def encode_all(autoencoder: AutoencoderKL, portraits: list[Portrait], resolution: int, show: bool) -> Batch:
    """``mean`` and ``deviation`` of every portrait's posterior, unscaled, float16, on the CPU."""
    rows: dict[str, list[Tensor]] = {"mean": [], "deviation": []}
    for start in tqdm(range(0, len(portraits), BATCH), desc="encoding pictures", unit="batch", disable=not show):
        pictures = [read_picture(portrait, resolution) for portrait in portraits[start : start + BATCH]]
        posterior = autoencoder.encode(torch.stack(pictures).to(autoencoder.device)).latent_dist
        rows["mean"].append(posterior.mean.half().cpu())
        rows["deviation"].append(posterior.std.half().cpu())
    return {name: torch.cat(parts) for name, parts in rows.items()}


class Denoiser(nn.Module):
    """Text encoder and UNet, trained together."""

    def __init__(self, text_encoder: nn.Module, unet: nn.Module):
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(noisy, timestep, self.text_encoder(tokens).last_hidden_state).sample.float()


class DenoiserStep(nn.Module):
    """``batch -> {"diffusion": loss}`` for a batch of :class:`Latents`: v-prediction under min-SNR weights."""

    def __init__(self, denoiser: Denoiser, noise: DDPMScheduler, scaling: float, config: SmallBaseConfig):
        super().__init__()
        self.denoiser, self.noise, self.scaling = denoiser, noise, scaling
        self.gamma = config.denoiser_train_params.min_snr_gamma

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Batch]:
        clean = (batch["mean"] + batch["deviation"] * batch["posterior_noise"]) * self.scaling
        steps, noise = batch["timestep"], batch["noise"]
        prediction = self.denoiser(self.noise.add_noise(clean, noise, steps), steps, batch["tokens"])
        snr = compute_snr(self.noise, steps)
        weight = (snr.clamp(max=self.gamma) / (snr + 1))[:, None, None, None]
        error = (prediction - self.noise.get_velocity(clean, noise, steps)).square()
        return {"diffusion": (weight * error).mean()}, {"tokens": batch["tokens"].detach()}


class DenoiserStage(PartStage):
    """See :class:`PartStage`."""

    def __init__(self, config: SmallBaseConfig, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer, no_text: Tensor):
        params, model = config.denoiser_train_params, config.model_params
        torch.manual_seed(params.seed)
        self.autoencoder, self.tokenizer, self.no_text = autoencoder, tokenizer, no_text
        side = config.dataset_params.resolution // 2 ** (len(model.autoencoder_params.channels) - 1)
        denoiser = Denoiser(
            networks.build_text_encoder(model.denoiser_params, tokenizer),
            networks.build_unet(model.denoiser_params, autoencoder.config.latent_channels, side),
        )
        self.scheduler = networks.build_scheduler()
        noise = DDPMScheduler.from_config(self.scheduler.config)
        step = DenoiserStep(denoiser, noise, autoencoder.config.scaling_factor, config)
        optimizer = torch.optim.AdamW(denoiser.parameters(), lr=params.lr, weight_decay=params.weight_decay)
        super().__init__(config, step, denoiser, params, optimizer)

    def pipeline(self) -> StableDiffusionPipeline:
        """The base as it stands."""
        return StableDiffusionPipeline(
            vae=self.autoencoder,
            text_encoder=self.averaged.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.averaged.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    @torch.no_grad()
    def picture(self, hand_over: Batch) -> Tensor:
        """Samples for the captions of a batch, always from the same noise."""
        with quiet():
            pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        tokens = hand_over["tokens"][:SHOWN]
        encode = self.averaged.text_encoder
        pictures = pipeline(
            prompt_embeds=encode(tokens).last_hidden_state,
            negative_prompt_embeds=encode(self.no_text.to(tokens.device).expand_as(tokens)).last_hidden_state,
            num_inference_steps=SHOWN_STEPS,
            guidance_scale=SHOWN_GUIDANCE,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        return torch.from_numpy((np.concatenate(list(pictures), axis=1) * 255).round().astype(np.uint8))


# ------------------------------------------------------------------------------------------------------------- recipes


class _Recipe:
    """See :class:`modules.runs.Recipe`."""

    part: str

    def __init__(self, out: str | Path, config_path: str):
        self.config = load_small_base_config(config_path)
        self.train_params = getattr(self.config, f"{self.part}_train_params")
        self.out = Path(out)

    def check(self) -> None:
        self.portraits, self.bad = read_portraits(self.config.dataset_params.root_dir)

    def announce(self, trainer: Trainer, loaded: Loaded | None, checkpoint: str | None, is_new: bool) -> None:
        if is_new:
            trainer.log_left_out(f"{path}: {reason}" for path, reason in self.bad.items())
        count = sum(p.numel() for p in trainer.stage.network.parameters())
        print(f"{len(self.portraits)} portraits; {count / 1e6:.2f} M parameters to train")

    def _trainer(
        self,
        stage: PartStage,
        dataset: Dataset,
        accelerator: Accelerator,
        found: dict[str, Any] | None,
        checkpoint: str | None,
        finetune: bool,
    ) -> tuple[Trainer, Loaded | None]:
        if finetune and "ema" in found:
            found = found | {"network": found["ema"], "ema_updates": 0}
        workers, rank, world = (
            self.config.dataset_params.num_workers, accelerator.process_index, accelerator.num_processes
        )
        loader = loader_of(dataset, self.train_params, workers, rank, world)
        trainer = Trainer(stage, loader, self.train_params, accelerator)
        return trainer, trainer.resume(found, checkpoint, finetune) if found is not None else None


class AutoencoderRecipe(_Recipe):
    """Trains the autoencoder and writes ``<out>/vae``."""

    part = "autoencoder"

    def build(
        self, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint: str | None, finetune: bool
    ) -> tuple[Trainer, Loaded | None]:
        stage = AutoencoderStage(self.config)
        side = self.config.dataset_params.resolution // 2 ** (len(stage.network.config.block_out_channels) - 1)
        shape = (stage.network.config.latent_channels, side, side)
        dataset = Pictures(self.portraits, self.config.dataset_params.resolution, shape, self.train_params)
        return self._trainer(stage, dataset, accelerator, found, checkpoint, finetune)

    def finish(self, trainer: Trainer) -> None:
        autoencoder = trainer.stage.averaged.eval()
        some = self.portraits[:: max(1, len(self.portraits) // SAMPLE)]
        rows = encode_all(autoencoder, some, self.config.dataset_params.resolution, True)
        variance = rows["mean"].float().var() + rows["deviation"].float().square().mean()
        # the denoiser's latents have a spread of 1
        autoencoder.register_to_config(scaling_factor=float(1 / variance.sqrt()))
        _save(autoencoder, self.out / VAE)
        print(f"autoencoder: '{self.out / VAE}'; now train the denoiser")


class DenoiserRecipe(_Recipe):
    """Trains text encoder and UNet on the latents of ``<out>/vae`` and completes ``<out>``."""

    part = "denoiser"

    def check(self) -> None:
        super().check()
        if not (self.out / VAE / "config.json").is_file():
            raise UserError(f"{self.out / VAE}: no such folder; train the autoencoder first (--part autoencoder)")

    def build(
        self, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint: str | None, finetune: bool
    ) -> tuple[Trainer, Loaded | None]:
        autoencoder = self._autoencoder().to(accelerator.device)
        captions = [portrait.text for portrait in self.portraits]
        tokenizer = networks.build_tokenizer(captions)
        tokens = _tokens(tokenizer, ["", *captions])
        stage = DenoiserStage(self.config, autoencoder, tokenizer, tokens[0])
        resolution, show = self.config.dataset_params.resolution, accelerator.is_main_process
        rows = encode_all(autoencoder, self.portraits, resolution, show)
        timesteps = stage.scheduler.config.num_train_timesteps
        dataset = Latents(rows, tokens[1:], tokens[0], timesteps, self.config)
        return self._trainer(stage, dataset, accelerator, found, checkpoint, finetune)

    def _autoencoder(self) -> AutoencoderKL:
        path, params = self.out / VAE, self.config.model_params.autoencoder_params
        try:
            with quiet():
                autoencoder = AutoencoderKL.from_pretrained(path).eval().requires_grad_(False)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{path}: no autoencoder can be loaded from there ({reason})") from error
        found = list(autoencoder.config.block_out_channels), autoencoder.config.latent_channels
        if found != (list(params.channels), params.latent_channels):
            raise UserError(f"{path}: its channels {found} are not model_params.autoencoder_params'; train it anew")
        return autoencoder

    def finish(self, trainer: Trainer) -> None:
        with quiet():
            _save(trainer.stage.pipeline(), self.out)
        print(f"base: '{self.out}'")


def _tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """int64 ``[N, 77]``, as Stable Diffusion's pipelines tokenise."""
    return tokenizer(
        captions, padding="max_length", max_length=networks.MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


def _save(part: Any, folder: Path) -> None:
    """Half precision is what is kept; whoever loads it says in which precision to compute."""
    with writing_errors(folder):
        part.to(dtype=torch.float16).save_pretrained(folder)


RECIPES = {recipe.part: recipe for recipe in (AutoencoderRecipe, DenoiserRecipe)}


def train(part: str, out: str | Path, **options: Any) -> Path:
    """Train one part; ``options`` are those of :func:`modules.runs.run`.  Its runs lie in ``<log_dir>/<part>``."""
    log_dir = str(Path(options.pop("log_dir", "log")) / part)
    return runs.run(partial(RECIPES[part], out), log_dir=log_dir, **options)
