"""SFSR's network and training: a base in its inpainting form, what it is given, and what is saved."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import tiny_base
import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from test_mef_training import Bench, train
from test_training import assert_identical
from tiny_mef import values, write_config, write_sid

from modules import media
from modules.config.files import mef_config_from_dict
from modules.config.mef import AdapterParams, BaseParams, InpaintParams
from modules.errors import UserError
from modules.mef.adapters import attach_new
from modules.mef.base import load_base
from modules.mef.checks import CONFIG
from modules.mef.conditions import Widths
from modules.mef.folder import save_adapters
from modules.mef.inpainting import extended, in_form
from modules.mef.pipeline import DeepExprPipeline
from modules.mef.projections import load_file_state, new_projection
from modules.mef.train import build_frozen
from modules.training.checkpoint import load_checkpoint
from modules.world import Faces, draw_close_poses, draw_expressions, draw_identities, draw_scenes, render

PEOPLE, EACH, SIDE = 2, 3, 64
SFSR = {"dataset_params.resolution": SIDE, "model_params.inpaint_params": {"train_base": True}}


def write_people(folder: Path) -> Path:
    """Rendered people, whose faces are found in pictures of so few pixels; every other one with a reference."""
    count = PEOPLE * EACH
    faces = Faces(
        draw_identities(PEOPLE, 7).repeat_interleave(EACH, dim=0),
        *draw_expressions(count, 7),
        draw_close_poses(count, 7),
        draw_scenes(count, 7),
    )
    images = (render(faces, SIDE).image * 255).byte().permute(0, 2, 3, 1).numpy()
    lines = []
    for i, image in enumerate(images):
        media.write_image(folder / "portraits" / f"{i}.png", image)
        line = {"file_name": f"{i}.png", "text": "a red hat", "identity": f"p{i // EACH}"}
        lines.append(line | ({"reference_image": f"{(i + EACH) % count}.png"} if i % 2 else {}))
    (folder / "portraits" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sfsr")
    tiny_base.save("sd15", folder / "sd15")
    return write_people(write_sid(folder))


def last_of(folder: Path) -> Path:
    return max(folder.glob("*-checkpoint.pth.tar"))


@torch.no_grad()
def test_a_base_that_is_extended_draws_what_it_drew_bit_for_bit():
    base = tiny_base.build("sd15")
    unet = UNet2DConditionModel.from_config(base.unet.config)
    unet.load_state_dict(base.unet.state_dict())
    noisy, beside, states = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 16, 16), torch.randn(2, 7, 24)
    wider = extended(base).unet
    assert wider.config.in_channels == 9
    found = wider(torch.cat([noisy, beside], dim=1), torch.tensor([3, 700]), states).sample
    assert torch.equal(found, unet(noisy, torch.tensor([3, 700]), states).sample)


def test_a_base_has_to_be_of_the_form_that_is_asked_for(tmp_path):
    tiny_base.save("sd15", tmp_path / "text")
    extended(tiny_base.build("sd15")).save_pretrained(tmp_path / "inpainting")
    of_text, inpainting = (load_base(BaseParams(path=str(tmp_path / name))) for name in ("text", "inpainting"))
    assert isinstance(inpainting, StableDiffusionInpaintPipeline)
    assert in_form(inpainting, InpaintParams(), "here") is inpainting
    with pytest.raises(UserError, match="here: its UNet reads no background"):
        in_form(of_text, InpaintParams(), "here")
    with pytest.raises(UserError, match="here: is a base for inpainting"):
        in_form(inpainting, None, "here")


@pytest.mark.parametrize("cached", [True, False])
def test_pose_is_of_the_portrait_and_expression_of_its_reference(workshop, cached):
    bench = Bench(workshop, cached=cached, **SFSR)
    batch = bench.batch([0, 1, 2, 3])
    rows = batch if cached else bench.step.encode(batch)
    sid, portraits = bench.frozen.embedder.sid, bench.tables.portraits
    count = sid.params.expression_dim
    for i, row in enumerate(batch["latents"].tolist()):
        portrait = portraits[row]
        own = bench.frozen.embeddings([portrait.image])["expression"][0]
        other = bench.frozen.embeddings([portrait.reference_image or portrait.image])["expression"][0]
        # alone or in a batch, convolutions round differently
        assert torch.allclose(rows["expression"][i][:count], other[:count], atol=1e-4)
        assert torch.allclose(rows["expression"][i][count:], own[count:], atol=1e-4)


def test_without_background_a_prediction_does_not_depend_on_it(workshop):
    bench = Bench(workshop, **SFSR)
    with torch.no_grad():
        bench.step.unet.conv_in.weight[:, 4:].normal_()
    batch = bench.batch([0, 1, 2, 3])
    other = batch | {"masked": batch["masked"] + 1}
    with torch.no_grad():
        seen = [bench.step.predict(b, b["noise"], b["timestep"]) for b in (batch, other)]
        blind = [
            bench.step.predict(b, b["noise"], b["timestep"])
            for b in (x | {"background": torch.zeros_like(batch["background"])} for x in (batch, other))
        ]
    assert not torch.allclose(*seen)
    assert torch.equal(*blind)


def test_what_is_trained_loads_in_stock_diffusers_and_here(workshop, tmp_path):
    config = write_config(tmp_path / "sfsr.yaml", workshop, **SFSR, **{"train_params.loss_weights.identity": 0.1})
    folder = train(config, log_dir=str(tmp_path / "log"))
    texts = {
        path: path.read_text() for path in (folder / "adapters").rglob("*.json") if path.parent.name != "tokenizer"
    }
    assert all(str(tmp_path) not in text and str(workshop) not in text for text in texts.values())  # it can be moved
    stock = StableDiffusionInpaintPipeline.from_pretrained(folder / "adapters" / "base")
    stock.set_progress_bar_config(disable=True)
    picture = torch.rand(1, 3, SIDE, SIDE)
    options = {"image": picture, "mask_image": torch.ones(1, 1, SIDE, SIDE), "height": SIDE, "width": SIDE}
    assert np.asarray(stock("a red hat", num_inference_steps=2, output_type="np", **options).images).shape == (
        1,
        SIDE,
        SIDE,
        3,
    )
    read = DeepExprPipeline.from_pretrained(folder / "adapters", crop=False)
    checkpoint = DeepExprPipeline.from_checkpoint(last_of(folder), crop=False)
    before = tiny_base.build("sd15").unet.state_dict()["conv_in.weight"]
    trained = read.base.unet.conv_in.weight
    assert trained.shape[1] == 9 and trained[:, 4:].abs().max() > 0
    assert not torch.equal(trained[:, :4], before)
    # files of adapters are half precision
    assert torch.allclose(trained, checkpoint.base.unet.conv_in.weight, atol=1e-3)
    again = tmp_path / "again"
    checkpoint.save_pretrained(again)
    assert (again / CONFIG).is_file() and (again / "base" / "model_index.json").is_file()


def test_a_resumed_run_ends_with_the_same_weights(workshop, tmp_path):
    config = write_config(tmp_path / "sfsr.yaml", workshop, **SFSR)
    whole = train(config, log_dir=str(tmp_path / "whole"))
    train(
        write_config(tmp_path / "sfsr.yaml", workshop, **SFSR, **{"train_params.num_epochs": 1}),
        log_dir=str(tmp_path / "parts"),
    )
    write_config(tmp_path / "sfsr.yaml", workshop, **SFSR)
    parts = train(config, log_dir=str(tmp_path / "parts"), resume="auto")
    a, b = (load_checkpoint(last_of(folder)) for folder in (whole, parts))
    assert_identical(a["unet"], b["unet"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_params.dropout_params.background": 0.5}, "dropout_params.background: expected 0 without"),
        ({"model_params.inpaint_params": {}, "model_params.adapter": "branch"}, "model_params.inpaint_params"),
        ({"model_params.inpaint_params": {}, "model_params.exemplar_params": {}}, "model_params.inpaint_params"),
    ],
)
def test_contradicting_options_are_told(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        mef_config_from_dict(values(tmp_path, **change))


@pytest.mark.slow
def test_a_step_of_stable_diffusion_1_5_for_inpainting_fits_in_24_gib():
    """Of the size of runwayml/stable-diffusion-inpainting's UNet, random; batch 1, 512 pixels, AdamW on adapters."""
    unet = UNet2DConditionModel(sample_size=64, in_channels=9, cross_attention_dim=768).to(torch.bfloat16)
    assert sum(p.numel() for p in unet.parameters()) == 859_535_364
    size = AdapterParams()
    adapters = attach_new(unet, Widths(64, 84), (size, size), ["mid", "up"])
    optimizer = torch.optim.AdamW(adapters.trainable(), lr=1e-4)
    unet.enable_gradient_checkpointing()
    embeds = {"image_embeds": [torch.randn(1, 1, 64), torch.randn(1, 1, 84)]}
    noisy, states = torch.randn(1, 9, 64, 64).bfloat16(), torch.randn(1, 77, 768).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = unet(noisy, torch.tensor([500]), states, added_cond_kwargs=embeds)
        loss = found.sample.float().square().mean()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 24 * 2**20  # in KiB


COMPOUND = {"model_params.compound_params": {"face_recognition": "bundled", "face_recognition_weight": 0.5}}


def test_a_compound_starts_from_adapters_of_z_id_alone(workshop, tmp_path, capsys):
    bench, start = Bench(workshop, **SFSR), tmp_path / "alone"
    save_adapters(start, bench.adapters, bench.frozen.embedder, BaseParams(path="here"), False, base=bench.frozen.base)
    still = {"train_params.lr": 0, "train_params.num_epochs": 1, "train_params.ema_decay": None}
    config = write_config(tmp_path / "both.yaml", workshop, **SFSR, **COMPOUND, **still)
    folder = train(config, checkpoint=str(start), finetune=True, log_dir=str(tmp_path / "log"))
    assert "other embeddings" not in capsys.readouterr().out
    alone, both = (load_checkpoint(f / "identity_adapter.safetensors") for f in (start, folder / "adapters"))
    few, many = (make_projection(state["image_proj"]) for state in (alone, both))
    z, beside = torch.randn(3, 8), torch.randn(3, 256)
    # the same sums in another order
    assert torch.allclose(few(z), many(torch.cat([z, beside], dim=1)), atol=1e-4)
    # and what is beside z_id can be learnt: it is read already, and only goes nowhere
    assert both["image_proj"]["proj.0.weight"][len(alone["image_proj"]["proj.0.weight"]) :, 8:].any()


def make_projection(saved: dict[str, torch.Tensor]) -> torch.nn.Module:
    (hidden, width), (out, cross) = (
        saved["proj.0.weight"].shape,
        (len(saved["proj.2.weight"]), len(saved["norm.weight"])),
    )
    projection = new_projection(width, cross, AdapterParams(tokens=out // cross, hidden_ratio=hidden // width))
    load_file_state(projection, saved)
    return projection.requires_grad_(False)


def test_the_bundled_recogniser_may_be_a_part_of_the_identity(workshop):
    alone, both = (build_frozen(mef_config_from_dict(values(workshop, **SFSR, **more))) for more in ({}, COMPOUND))
    count = alone.embedder.widths.identity
    assert both.embedder.widths.identity == count + 256
    files = [workshop / "portraits" / "0.png"]
    found = both.embeddings(files)["identity"]
    assert torch.equal(found[:, :count], alone.embeddings(files)["identity"])
    assert float(found[:, count:].norm()) == pytest.approx(0.5, abs=1e-5)
