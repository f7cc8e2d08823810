"""Training a small base from a configuration: autoencoder first, then text encoder and denoiser together."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTokenizer

from ...atomic import check_place, move_files, writing_errors
from ...config.files import load_small_base_config
from ...config.mef import BaseParams
from ...config.small_base import AutoencoderParams
from ...data.portraits import read_portraits
from ...data.sampling import loader_of
from ...errors import UserError
from ...training import run as runs
from ...training.checkpoint import load_checkpoint
from ...training.loop import Loaded, Trainer
from ..base import load_base, quiet
from . import networks
from .autoencoder import AutoencoderStage, Pictures
from .denoiser import TOKENIZER, Denoiser, DenoiserStage, Latents
from .latents import encode_all, portrait_latents
from .part import PartStage

VAE, INDEX = "vae", "model_index.json"  # the autoencoder's folder in the base's, and what names all of them
SAMPLE = 1024  # pictures whose latents tell their spread


class _Recipe:
    """See :class:`.training.run.Recipe`."""

    part: str

    def __init__(self, out: str | Path, config_path: str):
        self.config = load_small_base_config(config_path)
        self.train_params = getattr(self.config, f"{self.part}_train_params")
        self.out = Path(out)
        self.base: Path | None = None  # the folder that a run starts from, where it is one

    def read(self, checkpoint: str) -> dict[str, Any]:
        """Of a run, or a base's folder, which has weights alone."""
        if not Path(checkpoint).is_dir():
            return load_checkpoint(checkpoint)
        self.base = Path(checkpoint)
        return self._read_base(self.base)

    @property
    def vae(self) -> Path:
        """The autoencoder that latents are of: ``<out>/vae``, or till that is there the base's it starts from."""
        own = self.out / VAE
        return own if self.base is None or (own / "config.json").is_file() else self.base / VAE

    @property
    def keeps_latents(self) -> bool:
        """Whether latents mean the same afterwards: the autoencoder's encoder does not learn."""
        return True

    def check(self) -> None:
        check_place(self.out / INDEX)
        if self.base is not None and self.keeps_latents:
            params = self.config.model_params.autoencoder_params
            own, other = (_read_autoencoder(path, params).state_dict() for path in (self.vae, self.base / VAE))
            makes_latents = [name for name in own if name.startswith(("encoder.", "quant_conv."))]
            if not all(torch.equal(own[name], other[name]) for name in makes_latents):
                raise UserError(f"{self.vae}: makes other latents than {self.base / VAE}; choose another --out")
        self.portraits, self.bad = read_portraits(self.config.dataset_params.root_dir)

    def announce(self, trainer: Trainer, loaded: Loaded | None, checkpoint: str | None, is_new: bool) -> None:
        if is_new:
            trainer.log_left_out(f"{path}: {reason}" for path, reason in self.bad.items())
        if self.base is not None and self.keeps_latents and not (self.out / VAE / "config.json").is_file():
            with _appearing(self.out) as made:  # whoever continues the run finds it there
                self._take_over(Path(made))
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
            self.config.dataset_params.num_workers,
            accelerator.process_index,
            accelerator.num_processes,
        )
        loader = loader_of(dataset, self.train_params, workers, rank, world)
        trainer = Trainer(stage, loader, self.train_params, accelerator)
        return trainer, trainer.resume(found, checkpoint, finetune) if found is not None else None


class AutoencoderRecipe(_Recipe):
    """Trains the autoencoder and writes ``<out>/vae``."""

    part = "autoencoder"

    @property
    def keeps_latents(self) -> bool:
        return self.train_params.frozen_encoder

    def _take_over(self, out: Path) -> None:
        """All of the base: its denoiser knows these latents."""
        shutil.copytree(self.base, out, dirs_exist_ok=True)

    def _read_base(self, folder: Path) -> dict[str, Any]:
        return {"network": _read_autoencoder(folder / VAE, self.config.model_params.autoencoder_params).state_dict()}

    def build(
        self, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint: str | None, finetune: bool
    ) -> tuple[Trainer, Loaded | None]:
        if self.train_params.frozen_encoder and found is None:
            raise UserError("autoencoder_train_params.frozen_encoder: needs --finetune and a --checkpoint")
        stage = AutoencoderStage(self.config)
        side = self.config.dataset_params.resolution // 2 ** (len(stage.network.config.block_out_channels) - 1)
        shape = (stage.network.config.latent_channels, side, side)
        dataset = Pictures(self.portraits, self.config.dataset_params.resolution, shape, self.train_params)
        return self._trainer(stage, dataset, accelerator, found, checkpoint, finetune)

    def left(self, folder: Path) -> Path:
        return self.out / VAE / "config.json"

    def finish(self, trainer: Trainer) -> None:
        autoencoder = trainer.stage.averaged.eval()
        scaling = self._known_scaling() or self._measured_scaling(autoencoder)
        autoencoder.register_to_config(scaling_factor=scaling)
        _save(autoencoder, self.out / VAE)
        print(f"autoencoder: '{self.out / VAE}'")
        if not self.keeps_latents:
            print(f"its latents are new: now train the denoiser of '{self.out}'")

    def _known_scaling(self) -> float | None:
        """Where the encoder was frozen, the factor that a denoiser was, or may have been, trained with."""
        if not (self.train_params.frozen_encoder and (self.vae / "config.json").is_file()):
            return None
        return AutoencoderKL.load_config(self.vae)["scaling_factor"]

    def _measured_scaling(self, autoencoder: AutoencoderKL) -> float:
        """The denoiser's latents are to have a spread of 1."""
        some = self.portraits[:: max(1, len(self.portraits) // SAMPLE)]
        rows = encode_all(autoencoder, some, self.config.dataset_params.resolution, True)
        return float(1 / (rows["mean"].float().var() + rows["deviation"].float().square().mean()).sqrt())


class DenoiserRecipe(_Recipe):
    """Trains text encoder and UNet on the latents of ``<out>/vae``, or of a base it starts from; writes ``<out>``."""

    part = "denoiser"

    def _take_over(self, out: Path) -> None:
        shutil.copytree(self.base / VAE, out / VAE)

    def _read_base(self, folder: Path) -> dict[str, Any]:
        base = load_base(BaseParams(path=str(folder)))
        network = Denoiser(base.text_encoder, base.unet).state_dict()
        return {"network": network, TOKENIZER: networks.tokenizer_text(base.tokenizer)}

    def check(self) -> None:
        super().check()
        if not (self.vae / "config.json").is_file():
            raise UserError(f"{self.vae}: no such folder; train the autoencoder first (--part autoencoder)")

    def build(
        self, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint: str | None, finetune: bool
    ) -> tuple[Trainer, Loaded | None]:
        params = self.config.model_params.autoencoder_params
        autoencoder = _read_autoencoder(self.vae, params).to(accelerator.device)
        captions = [portrait.text for portrait in self.portraits]
        if found is not None and TOKENIZER in found:
            tokenizer = networks.restore_tokenizer(found[TOKENIZER])  # other captions would number words otherwise
        else:
            tokenizer = networks.build_tokenizer(captions)
        tokens = _tokens(tokenizer, ["", *captions])
        stage = DenoiserStage(self.config, autoencoder, tokenizer, tokens[0])
        rows = portrait_latents(autoencoder, self.portraits, self.config.dataset_params, accelerator)
        timesteps = stage.scheduler.config.num_train_timesteps
        dataset = Latents(rows, tokens[1:], tokens[0], timesteps, self.config)
        return self._trainer(stage, dataset, accelerator, found, checkpoint, finetune)

    def left(self, folder: Path) -> Path:
        return self.out / INDEX

    def finish(self, trainer: Trainer) -> None:
        with quiet():
            _save(trainer.stage.pipeline(), self.out)
        print(f"base: '{self.out}'")


def _read_autoencoder(path: Path, params: AutoencoderParams) -> AutoencoderKL:
    """A base's autoencoder, frozen, float32.  Raises UserError for one that is not there, or of other sizes."""
    try:
        with quiet():
            autoencoder = AutoencoderKL.from_pretrained(path).eval().requires_grad_(False)
        autoencoder.register_to_config(_name_or_path=VAE)  # a base says nothing of where it was made
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: no autoencoder can be loaded from there ({reason})") from error
    found = list(autoencoder.config.block_out_channels), autoencoder.config.latent_channels
    if found != (list(params.channels), params.latent_channels):
        raise UserError(f"{path}: its channels {found} are not model_params.autoencoder_params'; train it anew")
    return autoencoder


def _tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """int64 ``[N, 77]``, as Stable Diffusion's pipelines tokenise."""
    return tokenizer(
        captions, padding="max_length", max_length=networks.MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


def _save(part: Any, folder: Path) -> None:
    """Half precision is what is kept; what it is loaded in, if nobody says so, is float32 as of diffusers' models."""
    with _appearing(folder) as made:
        part.to(dtype=torch.float16).save_pretrained(made)
        for config in Path(made).rglob("config.json"):  # transformers' models are loaded in the precision it names
            text = config.read_text(encoding="utf-8").replace('"dtype": "float16"', '"dtype": "float32"')
            config.write_text(text, encoding="utf-8")


@contextmanager
def _appearing(folder: Path) -> Iterator[str]:
    """A temporary folder whose files appear in ``folder``, whole, at the end."""
    with writing_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made:
            yield made
            move_files(made, folder)


RECIPES = {recipe.part: recipe for recipe in (AutoencoderRecipe, DenoiserRecipe)}


def train(part: str, out: str | Path, **options: Any) -> Path:
    """Train one part; ``options`` are those of :func:`.training.run.run`.  Its runs lie in ``<log_dir>/<part>``."""
    log_dir = str(Path(options.pop("log_dir", "log")) / part)
    return runs.run(partial(RECIPES[part], out), log_dir=log_dir, **options)
