"""MEF's adapters and pipeline: the same picture in stock diffusers, the base untouched where they are off."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage
import tiny_base
import torch
from diffusers import (
    ControlNetModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from ldm_layout import save_single_file
from PIL import Image
from tiny_mef import WIDTHS, write_workshop

from modules import media
from modules.config.mef import AdapterParams, BaseParams, CompoundParams, SIDParams
from modules.errors import UserError
from modules.mef.adapters import Widths, attach_new, injected_layers
from modules.mef.base import load_base, set_scheduler
from modules.mef.embeddings import Embedder, SIDEncoders
from modules.mef.folder import ADAPTER_FILES, SID_FILE
from modules.mef.guidance import GuidanceWeights, separate_guidance
from modules.mef.pipeline import DeepExprPipeline
from modules.training.checkpoint import load_checkpoint, save_checkpoint

PROMPT = "a red hat"
SAME = 1e-4  # of pixel values in [0, 1]: float32 sums in another order


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """Bases of every kind, a SID, portraits, and a folder of adapters for each base: ``adapters-<kind>``."""
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    for kind in tiny_base.KINDS:
        base_params = BaseParams(path=str(folder / kind))
        base = load_base(base_params)
        adapters = attach_new(base.unet, Widths(*WIDTHS), (AdapterParams(), AdapterParams(tokens=2)), ["mid", "up"])
        for layer, active in zip(adapters.layers, adapters.injected, strict=True):
            for value in layer.to_v_ip:
                torch.nn.init.normal_(value.weight, std=0.3 * active)  # as if trained
        pipeline = DeepExprPipeline(base, adapters, embedder(folder), base_params)
        pipeline.save_pretrained(folder / f"adapters-{kind}")
    return folder


def embedder(folder: Path, **compound) -> Embedder:
    sid = SIDParams(config=str(folder / "sid.yaml"), checkpoint=str(folder / "sid.pth.tar"))
    return Embedder(SIDEncoders.from_sid(sid), CompoundParams(**compound))


def ours(workshop: Path, kind: str, **options) -> DeepExprPipeline:
    return DeepExprPipeline.from_pretrained(workshop / f"adapters-{kind}", **options)


def embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.randn(1, width, generator=generator) for width in WIDTHS)


def arguments(**more) -> dict:
    fixed = {"num_inference_steps": 3, "guidance_scale": 4.0, "output_type": "np"}
    return fixed | {"generator": torch.Generator().manual_seed(1)} | more


def draw(pipeline: DeepExprPipeline, **options) -> np.ndarray:
    z_id, z_exp = embeddings()
    return pipeline(PROMPT, identity_embedding=z_id, expression_embedding=z_exp, **arguments(**options)).images


def load_stock(stock, workshop: Path, kind: str):
    """What somebody does who knows diffusers alone."""
    stock.load_ip_adapter(
        str(workshop / f"adapters-{kind}"), subfolder="", weight_name=list(ADAPTER_FILES), image_encoder_folder=None
    )
    stock.set_progress_bar_config(disable=True)
    return stock


def draw_stock(stock, **options) -> np.ndarray:
    embeds = [torch.cat([torch.zeros_like(z), z])[:, None] for z in embeddings()]  # unconditional zeros first
    return stock(PROMPT, ip_adapter_image_embeds=embeds, **arguments(**options)).images


# ------------------------------------------------------------------------------------------------------ stock diffusers


@pytest.mark.parametrize("kind", tiny_base.KINDS)
def test_saved_adapters_draw_the_same_in_an_untouched_pipeline(workshop, kind):
    stock = (StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline).from_pretrained(workshop / kind)
    stock.set_progress_bar_config(disable=True)
    plain = stock(PROMPT, **arguments()).images
    theirs = draw_stock(load_stock(stock, workshop, kind))
    pipeline = ours(workshop, kind)
    assert np.abs(draw(pipeline) - theirs).max() <= SAME
    assert np.abs(theirs - plain).max() > 0.01  # the adapters do something
    off = draw(pipeline, identity_scale=0.0, expression_scale=0.0)
    assert np.array_equal(off, plain)  # the base's image exactly
    stock.set_ip_adapter_scale([0.0, 0.0])
    assert np.array_equal(draw_stock(stock), plain)
    assert not np.array_equal(draw(pipeline, expression_scale=0.0), draw(pipeline, identity_scale=0.0))


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))


def half() -> Image.Image:
    return Image.fromarray(np.repeat(np.array([[0] * 16 + [255] * 16], np.uint8), 32, axis=0))


def controlnet() -> ControlNetModel:
    """One whose output is not the zero it would start from."""
    torch.manual_seed(3)
    net = ControlNetModel.from_unet(tiny_base.unet("sd15"), conditioning_embedding_out_channels=(8, 16))
    for parameter in [*net.controlnet_down_blocks.parameters(), *net.controlnet_mid_block.parameters()]:
        torch.nn.init.normal_(parameter, std=0.1)
    return net


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
@pytest.mark.parametrize("task", ["img2img", "inpaint", "controlnet"])
def test_other_tasks_take_the_adapters_as_well(workshop, kind, task):
    if kind == "sdxl" and task != "img2img":
        pytest.skip("the same loading code: one task is enough")
    extra: dict = {}
    options: dict = {"image": picture()}
    classes = {
        "img2img": StableDiffusionImg2ImgPipeline,
        "inpaint": StableDiffusionInpaintPipeline,
        "controlnet": StableDiffusionControlNetPipeline,
    }
    if task == "inpaint":
        options |= {"mask_image": half(), "height": 32, "width": 32}
    if task == "controlnet":
        extra["controlnet"] = controlnet()
    else:
        options["strength"] = 0.9
    make = StableDiffusionXLImg2ImgPipeline if kind == "sdxl" else classes[task]
    components = load_base(BaseParams(path=str(workshop / kind))).components
    stock = load_stock(make(**components, **extra), workshop, kind)
    theirs = draw_stock(stock, **options)
    base = make(**load_base(BaseParams(path=str(workshop / kind))).components, **extra)
    base.set_progress_bar_config(disable=True)
    pipeline = ours(workshop, kind, base=base)
    assert np.abs(draw(pipeline, **options) - theirs).max() <= SAME


@pytest.mark.parametrize("kind", tiny_base.KINDS)
def test_lora_another_scheduler_and_scales_per_block_work_beside_them(workshop, kind):
    peft = pytest.importorskip("peft")
    up = "block_0" if kind == "sdxl" else "block_1"
    count = 3 if kind == "sdxl" else 2
    scales = [{"mid": 0.5, "up": {up: [1.0, 0.3, 0.0][:count]}}, {"up": 0.7}]

    def prepare(pipeline) -> None:
        torch.manual_seed(4)
        lora = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
        pipeline.unet.add_adapter(lora)
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)

    stock = (StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline).from_pretrained(workshop / kind)
    prepare(load_stock(stock, workshop, kind))
    stock.set_ip_adapter_scale(scales)
    pipeline = ours(workshop, kind)
    before = draw(pipeline)
    prepare(pipeline.base)
    image = draw(pipeline, identity_scale=scales[0], expression_scale=scales[1])
    assert np.abs(image - draw_stock(stock)).max() <= SAME
    assert np.abs(image - before).max() > 0.01


def test_layers_left_out_are_zero_in_the_file_and_inject_takes_any_block(workshop):
    unet = tiny_base.unet("sd15")
    assert injected_layers(unet, ["mid", "up"]) == [False, True, True, True]  # down, up, up, mid
    assert injected_layers(unet, "all") == [True] * 4
    assert injected_layers(unet, "mid") == [False, False, False, True]
    assert injected_layers(unet, ["up_blocks.1.attentions.0", "down_blocks.0"]) == [True, True, False, False]
    with pytest.raises(UserError, match="no cross-attention in a block 'up_blocks.0'"):
        injected_layers(unet, ["up_blocks.0"])
    saved = load_checkpoint(workshop / "adapters-sd15" / ADAPTER_FILES[0])
    assert set(saved) == {"image_proj", "ip_adapter"}
    assert not saved["ip_adapter"]["1.to_k_ip.weight"].any() and not saved["ip_adapter"]["1.to_v_ip.weight"].any()
    assert saved["ip_adapter"]["3.to_k_ip.weight"].any()
    assert set(saved["image_proj"]) == {
        f"{layer}.{part}" for layer in ("proj.0", "proj.2", "norm") for part in ("weight", "bias")
    }


def test_new_adapters_change_nothing_until_trained():
    unet = tiny_base.unet("sd15").eval()
    noisy, text = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 24)
    with torch.no_grad():
        before = unet(noisy, 7, text).sample
        attach_new(unet, Widths(*WIDTHS), (AdapterParams(),) * 2, "all")
        embeds = [torch.randn(2, 1, width) for width in WIDTHS]
        after = unet(noisy, 7, text, added_cond_kwargs={"image_embeds": embeds}).sample
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        ({"cross_attention_dim": 768, "attention_head_dim": 8}, 859.52),
        ({"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}, 865.91),
        (
            {
                "cross_attention_dim": 2048,
                "attention_head_dim": (5, 10, 20),
                "use_linear_projection": True,
                "block_out_channels": (320, 640, 1280),
                "transformer_layers_per_block": (1, 2, 10),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
            2567.46,
        ),
    ],
    ids=tiny_base.KINDS,
)
def test_published_bases_have_their_published_size_and_take_adapters(config, millions):
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, **config)
        assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
        cross = sum(not name.endswith("attn1.processor") for name in unet.attn_processors)
    assert len(injected_layers(unet, "all")) == cross == (70 if len(unet.down_blocks) == 3 else 16)


# ---------------------------------------------------------------------------------------------- the pipeline itself


@pytest.mark.parametrize("guidance", [{}, {"guidance_scale": 1.0}, {"identity_guidance": 2.0}])
def test_a_list_of_prompts_takes_one_embedding_each_or_one_for_all(workshop, guidance):
    pipeline, prompts = ours(workshop, "sd15"), ["a red hat", "a blue hat"]
    people = [z.reshape(1, -1).expand(2, -1) * torch.tensor([[1.0], [-1.0]]) for z in embeddings()]

    def paint(prompt, identity, expression, seeds, **more) -> np.ndarray:
        noise = {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
        given = {"identity_embedding": identity, "expression_embedding": expression}
        return pipeline(prompt, **given, **arguments(**noise, **guidance, **more)).images

    together = paint(prompts, *people, (0, 1))
    for i, prompt in enumerate(prompts):
        alone = paint(prompt, people[0][i], people[1][i], (i,))
        assert np.abs(together[i] - alone[0]).max() <= SAME
    shared = paint(prompts, *embeddings(), (0, 1))
    assert np.abs(shared[0] - together[0]).max() <= SAME < np.abs(shared[1] - together[1]).max()
    twice = paint(prompts, *people, (0, 2, 1, 3), num_images_per_prompt=2)  # a prompt's pictures in a row
    assert np.abs(twice[::2] - together).max() <= SAME
    with pytest.raises(UserError, match=r"2 embeddings for 1 prompt"):
        paint(prompts[0], *people, (0, 1))


@pytest.mark.parametrize("kind", tiny_base.KINDS)
def test_separate_guidance_with_equal_weights_is_ordinary_guidance(workshop, kind):
    pipeline = ours(workshop, kind)
    ordinary = draw(pipeline)
    assert np.abs(draw(pipeline, identity_guidance=4.0) - ordinary).max() <= 10 * SAME  # divided and multiplied by 4
    assert np.abs(draw(pipeline, identity_guidance=1.0) - ordinary).max() > 0.01
    assert np.array_equal(draw(pipeline), ordinary)  # nothing stays behind
    with pytest.raises(UserError, match="guidance_scale above 1"):
        draw(pipeline, identity_guidance=4.0, guidance_scale=1.0)


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_separate_guidance_is_its_formula_over_four_unet_calls(workshop, kind):
    """Weights that all differ, so that no two conditions can change places unnoticed."""
    g_text, g_identity, g_expression = 5.0, 2.0, 3.5
    pipeline = ours(workshop, kind)
    unet, generator = pipeline.base.unet, torch.Generator().manual_seed(7)
    noisy = torch.randn(1, 4, 16, 16, generator=generator)
    no_text, text = torch.randn(2, 1, 5, unet.config.cross_attention_dim, generator=generator)
    identity, expression = (z[:, None] for z in embeddings())
    pooled = {}
    if kind == "sdxl":
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        pooled = {
            "text_embeds": torch.randn(2, width, generator=generator),
            "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2),
        }

    def conditions(rows: list[int], embeds: list[torch.Tensor]) -> dict:
        return {"image_embeds": embeds} | {name: values[rows] for name, values in pooled.items()}

    def predict(given: str) -> torch.Tensor:
        """With the conditions of these letters: text, identity, expression."""
        embeds = [identity * ("i" in given), expression * ("x" in given)]
        added = conditions([int("t" in given)], embeds)
        return unet(noisy, 400, text if "t" in given else no_text, added_cond_kwargs=added).sample

    with torch.no_grad():
        none, t, ti, tix = map(predict, ("", "t", "ti", "tix"))
        expected = none + g_text * (t - none) + g_identity * (ti - t) + g_expression * (tix - ti)
        with separate_guidance(unet, GuidanceWeights(g_text, g_identity, g_expression)):
            added = conditions([0, 1], [torch.cat([torch.zeros_like(z), z]) for z in (identity, expression)])
            states = torch.cat([no_text, text])
            answer = unet(torch.cat([noisy, noisy]), 400, states, added_cond_kwargs=added, return_dict=False)[0]
    negative, positive = answer.chunk(2)
    actual = negative + g_text * (positive - negative)  # what every pipeline does
    assert torch.allclose(actual, expected, atol=1e-4)
    swapped = none + g_text * (t - none) + g_expression * (ti - t) + g_identity * (tix - ti)
    assert not torch.allclose(actual, swapped, atol=1e-2)


def test_separate_guidance_works_beside_a_controlnet_and_masks(workshop):
    components = load_base(BaseParams(path=str(workshop / "sd15"))).components
    base = StableDiffusionControlNetPipeline(**components, controlnet=controlnet())
    base.set_progress_bar_config(disable=True)
    pipeline, options = ours(workshop, "sd15", base=base), {"image": picture(), "identity_mask": half()}
    difference = draw(pipeline, expression_guidance=4.0, **options) - draw(pipeline, **options)
    assert np.abs(difference).max() <= 10 * SAME


def test_masks_restrict_an_adapter_to_a_region(workshop):
    pipeline = ours(workshop, "sd15")
    nowhere, everywhere = (Image.new("L", (32, 32), colour) for colour in (0, 255))
    free = draw(pipeline)
    assert np.abs(draw(pipeline, identity_mask=everywhere, expression_mask=everywhere) - free).max() <= SAME
    assert np.abs(draw(pipeline, identity_mask=nowhere) - draw(pipeline, identity_scale=0.0)).max() <= SAME
    assert np.abs(draw(pipeline, identity_mask=half()) - free).max() > 0.01


def test_pictures_and_their_embeddings_draw_the_same(workshop):
    pipeline = ours(workshop, "sd15")
    person, smile = (media.read_image(workshop / "portraits" / f"p{i}_0.png") for i in range(2))
    z_id, z_exp = pipeline.embed(person, Image.fromarray(smile))
    from_pictures = pipeline(PROMPT, person, smile, **arguments()).images
    from_numbers = pipeline(PROMPT, identity_embedding=z_id, expression_embedding=z_exp[0], **arguments()).images
    assert np.array_equal(from_pictures, from_numbers)
    assert float(z_id.norm()) == pytest.approx(1, abs=1e-5)
    none = pipeline(PROMPT, identity_embedding=torch.zeros(WIDTHS[0]), **arguments()).images
    assert np.array_equal(none, pipeline(PROMPT, **arguments()).images)  # what is not given is zero


def test_pictures_of_any_kind_are_read_as_files_are(workshop, tmp_path):
    pipeline = ours(workshop, "sd15")
    path, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(media.read_image(workshop / "portraits" / "p0_0.png")[:, :40]).save(path, exif=exif)
    z = pipeline.embed(path, path)
    upright = media.read_image(path)
    grey = np.repeat(upright[..., :1], 3, axis=2)
    with Image.open(path) as picture:
        same = [(picture, z), (upright / 255, z), (torch.from_numpy(upright).permute(2, 0, 1) / 255, z)]
        same.append((grey[..., 0], pipeline.embed(grey, grey)))
        for given, expected in same:
            for actual, wanted in zip(pipeline.embed(given, given), expected, strict=True):
                torch.testing.assert_close(actual, wanted)
    half().convert("L").save(tmp_path / "mask.png")
    drawn = draw(pipeline, identity_mask=half())
    for given in (tmp_path / "mask.png", np.asarray(half().convert("L")), np.asarray(half().convert("L")) > 127):
        assert np.array_equal(draw(pipeline, identity_mask=given), drawn)
    for name in ("identity_image", "expression_image", "identity_mask", "expression_mask"):
        with pytest.raises(UserError, match=f"{name}: cannot be a list"):
            draw(pipeline, **{name: [upright]}) if "mask" in name else pipeline(PROMPT, **{name: [upright]})


def test_what_does_not_fit_is_one_line(workshop):
    pipeline = ours(workshop, "sd15")
    with pytest.raises(UserError, match="expression embedding has 5 numbers; this adapter takes 12"):
        pipeline(PROMPT, expression_embedding=torch.zeros(5))
    for prompt in ("", "  ", None, []):
        with pytest.raises(UserError, match="the prompt is empty"):
            pipeline(prompt)
    with pytest.raises(UserError, match="24 wide; this base's is 32 wide"):
        ours(workshop, "sd15", base=str(workshop / "sd21"))
    with pytest.raises(UserError, match="no Stable Diffusion base can be loaded"):
        ours(workshop, "sd15", base=str(workshop / "portraits"))
    with pytest.raises(UserError, match="scale: "):
        draw(pipeline, identity_scale={"up": {"block_1": [1.0] * 7}})
    with pytest.raises(UserError, match="not a folder of DeepExpr adapters"):
        DeepExprPipeline.from_pretrained(workshop / "portraits")
    wider = tiny_base.build("sd15")
    wider.unet = tiny_base.unet("sd15").from_config(dict(wider.unet.config) | {"block_out_channels": (16, 48)})
    with pytest.raises(UserError, match="made for another base: mid_block"):
        ours(workshop, "sd15", base=wider)


def test_numbers_that_are_not_finite_are_named_instead_of_drawn_black(workshop, tmp_path):
    pipeline = ours(workshop, "sd15")
    with pytest.raises(UserError, match="the identity embedding is not finite"):
        pipeline(PROMPT, identity_embedding=torch.full((WIDTHS[0],), torch.nan))
    with pytest.raises(UserError, match="sd15: its latents are not finite, though its weights are"):
        draw(pipeline, latents=torch.full((1, 4, 16, 16), torch.nan))
    for part, name in (("unet", "conv_out.bias"), ("vae", "post_quant_conv.bias"), ("vae", "decoder.conv_in.bias")):
        broken = ours(workshop, "sd15")
        getattr(broken.base, part).get_parameter(name).data[0] = torch.nan
        with pytest.raises(UserError, match=f"sd15: {part}: {name} is not finite"):
            draw(broken)
    shutil.copytree(workshop / "adapters-sd15", tmp_path / "adapters")
    for file, where in ((ADAPTER_FILES[0], "image_proj: norm.weight"), (SID_FILE, "identity: ")):
        path = tmp_path / "adapters" / file
        whole, entries = path.read_bytes(), load_checkpoint(path)
        name = where.partition(": ")[2] or next(iter(entries["identity"]))
        entries[where.partition(": ")[0]][name].view(-1)[0] = torch.inf
        save_checkpoint(entries, path)
        with pytest.raises(UserError, match=f"{file}: {where}.* is not finite"):
            DeepExprPipeline.from_pretrained(tmp_path / "adapters")
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", ["enable_attention_slicing", "fuse_qkv_projections"])
def test_what_diffusers_changes_about_attention_leaves_the_adapters_in(workshop, kind, change):
    pipeline = ours(workshop, kind)
    before = draw(pipeline)
    getattr(pipeline.base, change)()
    for _ in range(2):
        assert np.abs(draw(pipeline) - before).max() <= SAME
    pipeline.base.unet.encoder_hid_proj = None
    with pytest.raises(UserError, match="the adapters are no longer in the base's UNet"):
        draw(pipeline)


def test_options_are_known_by_name(workshop):
    for name in ("torch_dtype", "dtype"):
        assert ours(workshop, "sd15", **{name: torch.bfloat16}).base.unet.dtype == torch.bfloat16
        with pytest.raises(UserError, match="dtype: expected one such as torch.float16, found 'half'"):
            ours(workshop, "sd15", **{name: "half"})
    for wrong, right in (
        ("detectr", "detector"),
        ("torch_type", "torch_dtype"),
        ("local_file_only", "local_files_only"),
    ):
        with pytest.raises(UserError, match=f"has no option {wrong}; did you mean {right}"):
            ours(workshop, "sd15", **{wrong: None})


@pytest.fixture
def no_hub(monkeypatch):
    """Nobody may be asked for what is not there."""

    def ask(*args, **options):
        raise AssertionError("the hub was asked")

    for place in ("huggingface_hub.hub_mixin.hf_hub_download", "modules.mef.pipeline.snapshot_download"):
        monkeypatch.setattr(place, ask)
    monkeypatch.setattr("modules.mef.base.DiffusionPipeline.download", ask)


def test_a_relative_base_is_found_from_any_folder(workshop, tmp_path, monkeypatch, no_hub):
    monkeypatch.chdir(workshop)
    pipeline = ours(workshop, "sd15", base="sd15")
    pipeline.save_pretrained(tmp_path / "adapters")
    monkeypatch.chdir(tmp_path)
    for adapters in ("adapters", tmp_path / "adapters"):
        again = DeepExprPipeline.from_pretrained(adapters)
        assert np.array_equal(draw(again), draw(pipeline))
        assert Path(again.base_params.path).samefile(workshop / "sd15")
    for name in ("./none", "a/b/none", str(tmp_path / "none"), "none/"):
        with pytest.raises(UserError, match="none/?: no such (base|folder of adapters)"):
            load_base(BaseParams(path=name))
        with pytest.raises(UserError, match="none/?: no such (base|folder of adapters)"):
            DeepExprPipeline.from_pretrained(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stable_diffusion": {"path": 5}}, "stable_diffusion"),
        ({"stable_diffusion": "sd15"}, "stable_diffusion"),
        ({"sid": {"checkpoint": 5}}, "sid: expected what save_pretrained writes"),
        ({"sid": {"encoder_params": [], "size": [32, 32]}}, "sid: expected what save_pretrained writes"),
        ({"compound_params": {"clip": []}}, "compound_params"),
        ({"stable_diffusion": {"path": "SHOP/sd15"}}, "sd15, outside what came from the hub"),
        ({"stable_diffusion": {"path": "../sd15"}}, "../sd15, outside what came from the hub"),
        ({"sid": {"checkpoint": "../sid.pth.tar"}}, "../sid.pth.tar, outside what came from the hub"),
        ({"compound_params": {"face_recognition": "/etc/passwd"}}, "/etc/passwd, outside what came from the hub"),
    ],
)
def test_a_foreign_description_names_nothing_outside_its_folder(workshop, tmp_path, monkeypatch, change, message):
    folder = tmp_path / "snapshot"
    shutil.copytree(workshop / "adapters-sd15", folder)
    description = json.loads((folder / "config.json").read_text())
    description["stable_diffusion"]["path"] = "sd15"
    shutil.copytree(workshop / "sd15", folder / "sd15")
    for section, values in change.items():
        if isinstance(values, dict) and "encoder_params" not in values:
            values = description[section] | values
        description[section] = values
    (folder / "config.json").write_text(json.dumps(description).replace("SHOP", str(workshop)))
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", lambda **_: str(folder / "config.json"))
    monkeypatch.setattr("modules.mef.pipeline.snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(UserError, match=message) as error:
        DeepExprPipeline.from_pretrained("someone/portraits")
    assert "\n" not in str(error.value)


def test_the_hub_gets_the_folder_that_is_saved(workshop, monkeypatch, tmp_path):
    sent = {}

    class Hub:
        def __init__(self, **options): ...

        def create_repo(self, repo_id, **options):
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path, **options):
            sent.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    pipeline = ours(workshop, "sd15")
    pipeline.push_to_hub("someone/portraits")
    assert set(sent) == {*ADAPTER_FILES, "sid_encoders.safetensors", "config.json", "README.md"}
    for name, content in sent.items():
        (tmp_path / name).write_bytes(content)
    again = DeepExprPipeline.from_pretrained(tmp_path)
    assert np.array_equal(draw(again), draw(pipeline))


# ------------------------------------------------------------------------------------------------- compound identity


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def clip_folder(folder: Path) -> Path:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=6,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessor(size=16, crop_size=16).save_pretrained(folder)
    return folder


def test_a_clip_embedding_joins_the_identity(workshop, tmp_path):
    compound = embedder(workshop, clip=str(clip_folder(tmp_path / "clip")), clip_weight=0.5)
    plain = embedder(workshop)
    assert compound.widths == (WIDTHS[0] + 6, WIDTHS[1])
    pictures = [media.read_image(workshop / "portraits" / f"p{i}_0.png") for i in range(2)]
    z_id, z_exp = compound(pictures)
    assert torch.equal(z_id[:, : WIDTHS[0]], plain(pictures)[0]) and torch.equal(z_exp, plain(pictures)[1])
    assert torch.allclose(z_id[:, WIDTHS[0] :].norm(dim=1), torch.tensor(0.5))
    with pytest.raises(UserError, match="no CLIP vision model"):
        embedder(workshop, clip=str(tmp_path))
    cut_short(tmp_path / "clip" / "model.safetensors")
    with pytest.raises(UserError, match="no CLIP vision model"):
        embedder(workshop, clip=str(tmp_path / "clip"))


@pytest.mark.parametrize("cpu", [True, False])
def test_face_recognition_leaves_the_gpu_alone_where_it_should(workshop, tmp_path, monkeypatch, cpu):
    """With a stand-in for an onnxruntime that could use one."""
    there, used = ["CUDAExecutionProvider", "CPUExecutionProvider"], []

    class Session:
        def __init__(self, path, providers):
            used.extend(providers)

        def get_inputs(self):
            return [SimpleNamespace(name="input")]

    stand_in = SimpleNamespace(InferenceSession=Session, get_available_providers=lambda: there)
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    path = tmp_path / "face.onnx"
    path.touch()
    Embedder(embedder(workshop).sid, CompoundParams(face_recognition=str(path)), cpu=cpu)
    assert used == (there[1:] if cpu else there)


def test_face_recognition_sees_aligned_faces(workshop, tmp_path, monkeypatch):
    """With a stand-in that embeds a face as its pixels: they hardly change where the picture is turned or shrunk."""

    class Session:
        def __init__(self, path, providers):
            pass

        def get_inputs(self):
            return [SimpleNamespace(name="input")]

        def run(self, outputs, inputs):
            (chip,) = inputs.values()
            return [chip.reshape(1, -1)]

    stand_in = SimpleNamespace(InferenceSession=Session, get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    (tmp_path / "face.onnx").touch()
    compound = embedder(workshop, face_recognition=str(tmp_path / "face.onnx"))
    assert compound.widths == (WIDTHS[0] + 3 * 112 * 112, WIDTHS[1])
    picture = Image.fromarray(skimage.data.astronaut())
    changed = [picture, picture.rotate(30, Image.Resampling.BICUBIC), picture.resize((400, 400))]
    z = compound([np.asarray(p) for p in changed])[0][:, WIDTHS[0] :]
    centred = z - z.mean(dim=1, keepdim=True)
    assert torch.nn.functional.cosine_similarity(centred[:1], centred[1:]).min() > 0.95  # measured: 0.98
    grey = np.full((50, 40, 3), 200, np.uint8)
    with pytest.raises(UserError, match="no face found in grey.png"):
        compound([grey], ["grey.png"])


def colour_network(path: Path) -> Path:
    """In place of a face-recognition network: a face's mean colour."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    faces = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 112, 112])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3])
    nodes = [helper.make_node("GlobalAveragePool", ["input"], ["mean"]), helper.make_node("Flatten", ["mean"], ["z"])]
    model = helper.make_model(
        helper.make_graph(nodes, "arcface", [faces], [z]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, path)
    return path


def test_a_face_recognition_network_joins_the_identity(workshop, tmp_path):
    colour_network(tmp_path / "face.onnx")
    compound = embedder(workshop, face_recognition=str(tmp_path / "face.onnx"), face_recognition_weight=2)
    assert compound.widths == (WIDTHS[0] + 3, WIDTHS[1])
    z = compound([skimage.data.astronaut()])[0][0, WIDTHS[0] :]
    assert z.norm() == pytest.approx(2) and z[0] > z[2] > -2  # a face is redder than blue
    (tmp_path / "broken.onnx").write_bytes(b"no")
    for name, message in (("none.onnx", "no such file"), ("broken.onnx", "not a readable .onnx file")):
        with pytest.raises(UserError, match=message):
            embedder(workshop, face_recognition=str(tmp_path / name))


# ---------------------------------------------------------------------------------------------------------------- bases


def test_a_base_may_be_one_file(workshop, tmp_path):
    path = save_single_file(tiny_base.build("sd15"), tmp_path / "base.safetensors")
    one = ours(workshop, "sd15", base=str(path), base_config=str(workshop / "sd15"))
    assert np.array_equal(draw(one), draw(ours(workshop, "sd15")))
    with pytest.raises(UserError, match="a base is a hub id, a folder or a .safetensors file"):
        load_base(BaseParams(path=str(workshop / "sid.pth.tar")))


@pytest.mark.parametrize(
    "name",
    [
        "base.safetensors",
        *(
            f"sd15/{part}.safetensors"
            for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
        ),
    ],
)
def test_a_damaged_base_is_one_line(workshop, tmp_path, name):
    base = tmp_path / name.split("/")[0]
    if base.suffix:
        save_single_file(tiny_base.build("sd15"), base)
    else:
        shutil.copytree(workshop / "sd15", base)
    cut_short(tmp_path / name)
    with pytest.raises(UserError, match=f"{base.name}: no Stable Diffusion base can be loaded") as error:
        load_base(BaseParams(path=str(base), config=str(workshop / "sd15") if base.suffix else None))
    assert "\n" not in str(error.value)


def test_ddim_takes_latents_of_any_size_from_every_base(workshop):
    """Configurations written by other schedulers say nothing of clipping, which DDIM would do unless told."""
    base = load_base(BaseParams(path=str(workshop / "sd15")))
    silent = {k: v for k, v in base.scheduler.config.items() if k not in ("clip_sample", "set_alpha_to_one")}
    base.scheduler = EulerDiscreteScheduler.from_config(silent)
    set_scheduler(base, "ddim")
    assert base.scheduler.final_alpha_cumprod == base.scheduler.alphas_cumprod[0]
    base.scheduler.set_timesteps(10)
    noisy = torch.full((1, 4, 2, 2), 30.0)
    estimate = base.scheduler.step(torch.zeros_like(noisy), base.scheduler.timesteps[-1], noisy).pred_original_sample
    assert float(estimate.min()) >= 30
