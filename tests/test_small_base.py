"""The small base: trained by its command on captioned pictures, it is a Stable Diffusion that anything can load."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import scripts
import torch
import yaml
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from test_training import assert_identical
from tiny_mef import CAPTIONS, write_portraits

from modules import media
from modules.config.files import load_small_base_config
from modules.config.mef import BaseParams
from modules.mef.base import load_base
from modules.mef.small_base import autoencoder
from modules.mef.small_base.networks import MAX_TOKENS, build_tokenizer
from modules.training.checkpoint import load_checkpoint


def write_config(folder: Path) -> Path:
    write_portraits(folder / "portraits")
    loop = {"num_epochs": 2, "num_repeats": 2, "batch_size": 4, "checkpoint_freq": 1, "ema_decay": 0.5}
    config = {
        "dataset_params": {
            "root_dir": str(folder / "portraits"),
            "resolution": 32,
            "num_workers": 0,
            "cache_dir": str(folder / "cache"),
        },
        "model_params": {
            "autoencoder_params": {"channels": [8, 16], "latent_channels": 4},
            "denoiser_params": {"channels": [32, 64], "text_width": 16, "text_layers": 2},
        },
        "autoencoder_train_params": loop,
        "denoiser_train_params": loop,
    }
    path = folder / "base.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def train(folder: Path, part: str, *options: str, fresh: bool = False) -> subprocess.CompletedProcess:
    places = ("--config", folder / "base.yaml", "--out", folder / "base", "--log_dir", folder / "log")
    return scripts.run("-m", "modules.mef.small_base", "--part", part, *places, "--cpu", *options, fresh=fresh)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a configuration, the runs and the base they made."""
    folder = tmp_path_factory.mktemp("small")
    write_config(folder)
    for part in ("autoencoder", "denoiser"):
        result = train(folder, part, fresh=part == "autoencoder")
        assert result.returncode == 0, result.stderr
    return folder


def test_the_trained_base_paints_and_listens_to_the_prompt(trained):
    pipeline = load_base(BaseParams(path=str(trained / "base")))
    assert type(pipeline) is StableDiffusionPipeline
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float32}  # kept in half, computed in full precision

    def paint(prompt: str):
        generator = torch.Generator().manual_seed(0)
        return pipeline(prompt, num_inference_steps=2, generator=generator, output_type="np").images[0]

    red, again, blue = paint(CAPTIONS[0]), paint(CAPTIONS[0]), paint(CAPTIONS[1])
    assert red.shape == (32, 32, 3) and (red == again).all() and (red != blue).any()


def test_a_stock_pipeline_loads_the_base_in_one_precision(trained):
    stock = StableDiffusionPipeline.from_pretrained(trained / "base")
    dtypes = {p.dtype for part in (stock.text_encoder, stock.unet, stock.vae) for p in part.parameters()}
    assert dtypes == {torch.float32}


def test_latents_as_the_denoiser_sees_them_have_a_spread_of_one(trained):
    pipeline = load_base(BaseParams(path=str(trained / "base")))
    vae, images = pipeline.vae, []
    for path in sorted((trained / "portraits").glob("p*.png")):
        images.append(torch.from_numpy(media.fit(media.read_image(path), 32, 32)).permute(2, 0, 1) / 127.5 - 1)
    with torch.no_grad():
        posterior = vae.encode(torch.stack(images)).latent_dist
    spread = (posterior.mean.var() + posterior.std.square().mean()).sqrt() * vae.config.scaling_factor
    assert spread.item() == pytest.approx(1, abs=0.02)  # half precision, here and where it was measured


def test_latents_are_kept_for_other_runs_and_processes(trained):
    (cached,) = (trained / "cache").iterdir()
    pictures, latents = sorted((trained / "portraits").glob("p*.png")), load_checkpoint(cached)
    assert len(latents["mean"]) == len(latents["deviation"]) == len(pictures)
    shutil.copytree(trained, trained / "again", ignore=shutil.ignore_patterns("again", "log"))
    before = cached.stat().st_mtime_ns
    result = train(trained / "again", "denoiser", "--device_ids", "0,1")
    assert result.returncode == 0 and "encoding" not in result.stderr, result.stderr
    assert cached.stat().st_mtime_ns == before


def test_a_frozen_encoder_keeps_the_latents_while_the_decoder_learns(trained):
    config = load_small_base_config(trained / "base.yaml")
    config = replace(config, autoencoder_train_params=replace(config.autoencoder_train_params, frozen_encoder=True))
    network, (objective,) = autoencoder.build(config)
    before = copy.deepcopy(network.state_dict())
    (optimizer,) = objective.optimizers.values()
    batch = {"image": torch.rand(2, 3, 32, 32) * 2 - 1, "posterior_noise": torch.randn(2, 4, 16, 16)}
    sum(objective.module(batch)[0].values()).backward()
    optimizer.step()
    changed = {name.split(".")[0] for name, t in network.state_dict().items() if not torch.equal(t, before[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_a_finished_run_that_was_killed_before_it_wrote_the_base_writes_it_when_asked_to_go_on(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "again", ignore=shutil.ignore_patterns("again"))
    folder, name = tmp_path / "again", Path("base") / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.rmtree(folder / "base" / "unet")
    os.utime(folder / "base" / "model_index.json", (0, 0))  # an earlier base's: what is written last says that all is
    result = train(folder, "denoiser", "--resume", "auto")
    assert result.returncode == 0 and "base: " in result.stdout, result.stderr
    assert_identical(load_checkpoint(trained / name), load_checkpoint(folder / name))


def test_each_part_leaves_logs_pictures_and_checkpoints_of_its_own(trained):
    for part, loss in (("autoencoder", "pixel"), ("denoiser", "diffusion")):
        (run,) = (trained / "log" / part).iterdir()
        assert f"{loss} - " in (run / "log.txt").read_text()
        assert (run / "train-vis" / "00000001-rec.png").is_file()
        assert (run / "00000001-checkpoint.pth.tar").is_file()
        result = train(trained, part, "--resume", "auto")
        assert result.returncode == 0 and "nothing left to train" in result.stdout


def test_two_processes_train_it_and_what_does_not_fit_is_one_line(trained, tmp_path):
    write_config(tmp_path)
    result = train(tmp_path, "autoencoder", "--device_ids", "0,1")
    assert result.returncode == 0 and "on 2 process(es)" in result.stdout, result.stderr
    config = yaml.safe_load((tmp_path / "base.yaml").read_text())
    config["model_params"]["autoencoder_params"]["channels"] = [8, 8]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(config))
    result = train(tmp_path, "denoiser")
    assert result.returncode == 2 and "train it again" in result.stderr and len(result.stderr.splitlines()) == 1
    config["dataset_params"]["resolution"] = 40
    config["model_params"]["denoiser_params"]["channels"] = [32, 64, 64, 64]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(config))
    result = train(tmp_path, "denoiser")
    assert result.returncode == 2 and "dataset_params.resolution: expected a multiple of 2**4" in result.stderr


@pytest.mark.parametrize("start", ["base", "run"])
def test_training_goes_on_from_a_base_or_a_run_with_its_own_words(trained, tmp_path, start):
    """The captions are others now; a word keeps the number that the text encoder knows it by, latents their meaning."""
    write_config(tmp_path)
    metadata = tmp_path / "portraits" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("hat", "zebra"))
    config = yaml.safe_load((tmp_path / "base.yaml").read_text())
    config["denoiser_train_params"] |= {"lr": 0, "ema_decay": None}  # what it starts from is what it ends with
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(config))
    (run,) = (trained / "log" / "denoiser").glob("*/00000001-checkpoint.pth.tar")
    checkpoint = {"base": trained / "base", "run": run}[start]
    if start == "run":
        shutil.copytree(trained / "base" / "vae", tmp_path / "base" / "vae")
    result = train(tmp_path, "denoiser", "--checkpoint", str(checkpoint), "--finetune")
    assert result.returncode == 0, result.stderr
    before, after = (load_base(BaseParams(path=str(folder / "base"))) for folder in (trained, tmp_path))
    assert_identical(before.unet.state_dict(), after.unet.state_dict())
    assert_identical(before.text_encoder.state_dict(), after.text_encoder.state_dict())
    assert_identical(before.vae.state_dict(), after.vae.state_dict())
    assert before.vae.config.scaling_factor == after.vae.config.scaling_factor
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()


def test_an_autoencoder_goes_on_from_a_base(trained, tmp_path):
    write_config(tmp_path)
    config = yaml.safe_load((tmp_path / "base.yaml").read_text())
    changes = {"lr": 0, "ema_decay": None, "frozen_encoder": True}
    config["autoencoder_train_params"] = config["autoencoder_train_params"] | changes  # both parts' are one object
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(config))
    result = train(tmp_path, "autoencoder", "--checkpoint", str(trained / "base"), "--finetune")
    assert result.returncode == 0, result.stderr
    before, after = (load_base(BaseParams(path=str(folder / "base"))) for folder in (trained, tmp_path))
    assert_identical(before.unet.state_dict(), after.unet.state_dict())  # the base is whole
    before, after = before.vae, after.vae
    assert_identical(before.state_dict(), after.state_dict())
    assert before.config.scaling_factor == after.config.scaling_factor  # what its denoiser was trained with
    weights = tmp_path / "base" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    result = train(tmp_path, "denoiser", "--checkpoint", str(trained / "base"), "--finetune")
    assert result.returncode == 2 and "makes other latents than" in result.stderr, result.stderr
    (run,) = (trained / "log" / "autoencoder").glob("*/00000000-checkpoint.pth.tar")
    result = train(tmp_path, "autoencoder", "--checkpoint", str(run))  # whose optimiser has the encoder's numbers too
    assert result.returncode == 2 and "--finetune" in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_denoiser_without_autoencoder_says_what_comes_first(tmp_path):
    write_config(tmp_path)
    result = train(tmp_path, "denoiser")
    assert result.returncode == 2 and not (tmp_path / "log").exists()
    assert result.stderr.strip().endswith("no such folder; train the autoencoder first (--part autoencoder)")


def test_words_of_the_captions_are_whole_tokens_and_others_are_spelt():
    tokenizer = build_tokenizer(["a person with curly red hair", "a beanie"])
    assert tokenizer.tokenize("Curly hair") == ["curly</w>", "hair</w>"]
    spelt = tokenizer.tokenize("zebra")
    assert len(spelt) > 1 and "".join(spelt) == "zebra</w>"
    assert tokenizer.unk_token_id not in tokenizer('beanie! (100 % "red"); hair?', add_special_tokens=False).input_ids
    assert tokenizer.model_max_length == MAX_TOKENS
