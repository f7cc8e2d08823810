"""MEF's exemplar adapter: an expression read place by place, in the layout of IP-Adapter Plus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scripts
import skimage
import tiny_base
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from test_mef import PROMPT, SAME, arguments, colour_network, load_stock
from test_mef_training import ALWAYS_GIVEN, Bench, train
from test_training import assert_identical
from tiny_mef import WIDTHS, write_config, write_workshop

from modules import media
from modules.config.files import mef_config_from_dict
from modules.config.mef import AdapterParams, BaseParams, ExemplarParams, SIDParams
from modules.data.portraits import read_portraits
from modules.errors import UserError
from modules.faces.window import whole_face, whole_face_in_frame
from modules.mef.adapters import Adapters, attach, attach_new, cross_attention_layers, injected_layers
from modules.mef.base import load_base
from modules.mef.checks import CONFIG, read_description
from modules.mef.conditions import Widths
from modules.mef.embeddings import Embedder, SIDEncoders
from modules.mef.folder import ADAPTER_FILES, read_adapters, read_sid
from modules.mef.inference import load_pipeline
from modules.mef.layers import reactions, suggested
from modules.mef.pipeline import DeepExprPipeline
from modules.training.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parent.parent
EXEMPLAR = ExemplarParams(tokens=3, hidden=64)
READS = {"model_params.exemplar_params": {"tokens": 3, "hidden": 64}}
KINDS = ("sd15", "sdxl")  # sd21 differs in its noise alone
CELLS, WIDTH = 16, 48  # of the tiny SID, whose faces are 32 pixels wide: [features 32 | position 12 | place 4]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """Bases of every kind, a SID, portraits, and a folder of adapters for each base: ``adapters-<kind>``."""
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    for kind in KINDS:
        params = BaseParams(path=str(folder / kind))
        base = load_base(params)
        adapters = attach_new(base.unet, Widths(WIDTHS[0], WIDTH), (AdapterParams(), EXEMPLAR), ["mid", "up"], "up")
        as_if_trained(adapters)
        pipeline = DeepExprPipeline(base, adapters, embedder(folder), params)
        pipeline.save_pretrained(folder / f"adapters-{kind}")
    return folder


def as_if_trained(adapters: Adapters) -> None:
    for layer, held in zip(adapters.layers, adapters.held, strict=True):
        for value, active in zip(layer.to_v_ip, held, strict=True):
            torch.nn.init.normal_(value.weight, std=0.3 * active)


def embedder(folder: Path, encoder: str = "sid") -> Embedder:
    sid = SIDParams(config=str(folder / "sid.yaml"), checkpoint=str(folder / "sid.pth.tar"))
    return Embedder(SIDEncoders.from_sid(sid), exemplar=encoder)


def portrait(folder: Path, name: str) -> np.ndarray:
    return media.read_image(folder / "portraits" / f"{name}.png")


def draw(pipeline: DeepExprPipeline, workshop: Path, expression: str | None = "p1_2", **options) -> np.ndarray:
    picture = None if expression is None else portrait(workshop, expression)
    return pipeline(PROMPT, portrait(workshop, "p0_0"), picture, **arguments(**options)).images


# -------------------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_exemplar_adapter_draws_the_same_in_an_untouched_pipeline(workshop, kind):
    make = StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline
    stock = make.from_pretrained(workshop / kind)
    plain = load_plain(stock)
    pipeline = DeepExprPipeline.from_pretrained(workshop / f"adapters-{kind}")
    z_id, z_exp = pipeline.embed(portrait(workshop, "p0_0"), portrait(workshop, "p1_2"))
    assert z_id.shape == (1, WIDTHS[0]) and z_exp.shape == (1, CELLS, WIDTH)
    pairs = [torch.cat([torch.zeros_like(z), z])[:, None] for z in (z_id, z_exp)]  # unconditional zeros first
    load_stock(stock, workshop, kind)
    theirs = stock(PROMPT, ip_adapter_image_embeds=pairs, **arguments()).images
    ours = draw(pipeline, workshop)
    assert np.abs(ours - theirs).max() <= SAME
    assert np.abs(ours - plain).max() > 0.01  # the adapters do something
    for other in (draw(pipeline, workshop, "p0_3"), draw(pipeline, workshop, None)):
        assert np.abs(other - ours).max() > 1e-3  # and so does what the exemplar shows
    assert np.array_equal(draw(pipeline, workshop, identity_scale=0.0, expression_scale=0.0), plain)


def load_plain(stock) -> np.ndarray:
    stock.set_progress_bar_config(disable=True)
    return stock(PROMPT, **arguments()).images


def test_a_file_has_the_names_of_ip_adapter_plus(workshop):
    saved = load_checkpoint(workshop / "adapters-sd15" / ADAPTER_FILES[1])["image_proj"]
    ends = ("weight", "bias")
    block = ["0.norm1", "0.norm2", "1.0"]
    names = {f"layers.{i}.{layer}.{end}" for i in range(4) for layer in block for end in ends}
    block = ["0.to_q", "0.to_kv", "0.to_out", "1.1", "1.3"]
    names |= {f"layers.{i}.{layer}.weight" for i in range(4) for layer in block}
    names |= {f"{layer}.{end}" for layer in ("proj_in", "proj_out", "norm_out") for end in ends}
    assert set(saved) == names | {"latents"}
    assert saved["latents"].shape == (1, 3, 64) and saved["proj_in.weight"].shape == (64, WIDTH)


def test_each_prompt_may_have_an_exemplar_of_its_own_and_guidance_is_split_by_condition(workshop):
    pipeline = DeepExprPipeline.from_pretrained(workshop / "adapters-sd15")
    z_id, first = pipeline.embed(portrait(workshop, "p0_0"), portrait(workshop, "p1_2"))
    both = torch.cat([first, pipeline.embed(None, portrait(workshop, "p0_3"))[1]])
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    options = arguments(generator=noise) | {"identity_embedding": z_id}
    together = pipeline([PROMPT, PROMPT], expression_embedding=both, **options).images
    for i in range(2):
        options = arguments(generator=[torch.Generator().manual_seed(i)]) | {"identity_embedding": z_id}
        alone = pipeline(PROMPT, expression_embedding=both[i], **options).images
        assert np.abs(together[i] - alone[0]).max() <= SAME
    ordinary = draw(pipeline, workshop)
    assert np.abs(draw(pipeline, workshop, expression_guidance=4.0) - ordinary).max() <= 10 * SAME
    assert np.abs(draw(pipeline, workshop, expression_guidance=1.0) - ordinary).max() > 1e-3
    with pytest.raises(UserError, match=f"the expression embedding has 7 numbers; this adapter takes {WIDTH}"):
        pipeline(PROMPT, expression_embedding=torch.zeros(1, CELLS, 7))


def test_layers_without_the_expression_hold_and_learn_nothing_of_it(workshop):
    pipeline = DeepExprPipeline.from_pretrained(workshop / "adapters-sd15")
    adapters = pipeline.adapters
    assert adapters.held == [[False, False], [True, True], [True, True], [True, False]]  # down, up, up, mid
    pipeline.set_scales(0.5, 0.7)
    assert [layer.scale for layer in adapters.layers] == [[0, 0], [0.5, 0.7], [0.5, 0.7], [0.5, 0]]
    adapters.trainable()
    learn = [[key.weight.requires_grad for key in layer.to_k_ip] for layer in adapters.layers]
    assert learn == adapters.held


# --------------------------------------------------------------------------------------------------------- what is read


def bundled() -> SIDEncoders:
    folder = ROOT / "MEF_Checkpoints" / "adapters"
    return read_sid(folder, read_description(folder / CONFIG)).eval()


def clip_folder(folder: Path) -> Path:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=6, **sizes)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessor(size=32, crop_size=32).save_pretrained(folder)
    return folder


class Settled(torch.nn.Module):
    """Finds a face where it was."""

    def __init__(self, place: torch.Tensor):
        super().__init__()
        self.place = place

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.place.expand(len(image), -1)


@pytest.mark.parametrize("encoder", ["sid", "clip"])
def test_the_face_is_read_and_its_surroundings_are_not(tmp_path, encoder):
    """Noise around the face changes what is read at most a tenth as much as noise within it."""
    name = "sid" if encoder == "sid" else str(clip_folder(tmp_path / "clip"))
    sid = bundled()
    look = Embedder(sid, exemplar=name)
    picture = media.read_image(ROOT / "Inputs" / "driving static images" / "happiness.png")
    picture = media.fit(picture, *sid.size)
    place = sid.semantic.look(look.exemplar.frames([picture])).place
    # where the face is found is not the question here, and both changes would move it
    sid.semantic.finder = Settled(place)
    oval = whole_face_in_frame(whole_face(place), *sid.size)[0, 0].numpy()
    assert 0.1 < (oval > 0.5).mean() < 0.5
    noise = np.random.default_rng(0).integers(-40, 40, picture.shape)
    before, *after = (
        look.exemplar([np.clip(picture + noise * where[..., None], 0, 255).astype(np.uint8)])
        for where in (oval < 0, oval > 0.8, oval < 1e-3)
    )
    inside, outside = ((z - before).square().mean().sqrt() for z in after)
    assert before.shape == (1, look.exemplar.cells, look.exemplar.width)
    assert outside < 0.1 * inside


def test_an_encoder_that_is_not_there_or_a_sid_that_finds_no_faces_is_told(workshop, tmp_path):
    with pytest.raises(UserError, match="model_params.exemplar_params.encoder.*no CLIP vision model"):
        embedder(workshop, str(workshop / "portraits"))
    sid = embedder(workshop).sid
    sid.semantic.finder = None
    with pytest.raises(UserError, match="does not look for faces"):
        Embedder(sid, exemplar="sid")


# ----------------------------------------------------------------------------------------------------- beside others


def test_an_expression_adapter_of_its_own_folder_takes_the_place_of_the_other(workshop, tmp_path):
    """Each reads its picture with the networks of its own folder, whatever the other is."""
    params = BaseParams(path=str(workshop / "sd15"))
    base = load_base(params)
    vectors = attach_new(base.unet, Widths(*WIDTHS), (AdapterParams(), AdapterParams()), "all")
    as_if_trained(vectors)
    sid = embedder(workshop).sid
    DeepExprPipeline(base, vectors, Embedder(sid), params).save_pretrained(tmp_path / "vectors")
    mixed = load_pipeline(str(tmp_path / "vectors"), cpu=True, expression_adapter=str(workshop / "adapters-sd15"))
    paths = [tmp_path / "vectors" / ADAPTER_FILES[0], workshop / "adapters-sd15" / ADAPTER_FILES[1]]
    for path, state in zip(paths, mixed.adapters.state().values(), strict=True):
        assert_identical(load_checkpoint(path), state)
    identity, expression = mixed.embed(portrait(workshop, "p0_0"), portrait(workshop, "p1_2"))
    assert identity.shape == (1, WIDTHS[0]) and expression.shape == (1, CELLS, WIDTH)
    with pytest.raises(UserError, match="keep the folders that they came from"):
        mixed.save_pretrained(tmp_path / "both")
    stock = StableDiffusionPipeline.from_pretrained(workshop / "sd15")
    stock.set_progress_bar_config(disable=True)
    folders = [str(path.parent) for path in paths]
    stock.load_ip_adapter(folders, subfolder="", weight_name=list(ADAPTER_FILES), image_encoder_folder=None)
    pairs = [torch.cat([torch.zeros_like(z), z])[:, None] for z in (identity, expression)]
    theirs = stock(PROMPT, ip_adapter_image_embeds=pairs, **arguments()).images
    assert np.abs(draw(mixed, workshop) - theirs).max() <= SAME

    both = "--checkpoint", str(tmp_path / "vectors"), "--expression_adapter", str(workshop / "adapters-sd15")
    for word in ("joy", "fear"):  # read by the exemplar adapter's own encoder
        asked = "--prompt", PROMPT, "--expression", word, "--steps", "2", "--cpu", "--result_image", f"{word}.png"
        done = scripts.run(ROOT / "Inference.py", *both, *asked, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert not np.array_equal(*(media.read_image(tmp_path / f"{word}.png") for word in ("joy", "fear")))


def test_face_id_of_others_stands_beside_it_with_its_lora(workshop, tmp_path):
    """A file in the layout of ip-adapter-faceid_sd15.bin, and a network that sees a face's colour."""
    pytest.importorskip("peft")
    network = colour_network(tmp_path / "face.onnx")
    unet = tiny_base.unet("sd15")
    theirs = attach_new(unet, Widths(3, WIDTH), (AdapterParams(), EXEMPLAR), "all")
    as_if_trained(theirs)
    state = theirs.state()["identity_adapter"]
    features = unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0.attn2")
    for name in ("to_q", "to_k", "to_v", "to_out"):
        layer = features.to_out[0] if name == "to_out" else getattr(features, name)
        rows, columns = layer.weight.shape
        state["ip_adapter"][f"1.{name}_lora.down.weight"] = torch.randn(2, columns)
        state["ip_adapter"][f"1.{name}_lora.up.weight"] = torch.randn(rows, 2)
    save_checkpoint(state, tmp_path / "face-id.safetensors")
    folder = str(workshop / "adapters-sd15")
    files = str(tmp_path / "face-id.safetensors")
    pipeline = load_pipeline(files, cpu=True, expression_adapter=folder, face_recognition=str(network))
    person = skimage.data.astronaut()
    identity = pipeline.embed(identity_image=person)[0]
    assert identity.shape == (1, 3) and identity.norm() == pytest.approx(1)
    stock = StableDiffusionPipeline.from_pretrained(workshop / "sd15")
    stock.set_progress_bar_config(disable=True)
    stock.load_ip_adapter(str(tmp_path), subfolder="", weight_name="face-id.safetensors", image_encoder_folder=None)
    pair = torch.cat([torch.zeros_like(identity), identity])[:, None]
    alone = stock(PROMPT, ip_adapter_image_embeds=[pair], **arguments()).images
    both = pipeline(PROMPT, person, portrait(workshop, "p1_2"), **arguments()).images
    silent = pipeline(PROMPT, person, portrait(workshop, "p1_2"), expression_scale=0.0, **arguments()).images
    assert np.abs(silent - alone).max() <= SAME < np.abs(both - alone).max()
    with pytest.raises(UserError, match="not an IP-Adapter FaceID file"):
        state["image_proj"]["perceiver_resampler.proj_in.weight"] = torch.zeros(2, 2)  # FaceID Plus
        save_checkpoint(state, tmp_path / "face-id-plus.safetensors")
        load_pipeline(
            str(tmp_path / "face-id-plus.safetensors"),
            cpu=True,
            expression_adapter=folder,
            face_recognition=str(network),
        )


def test_what_cannot_stand_beside_another_is_told(workshop, tmp_path):
    folder = str(workshop / "adapters-sd15")
    with pytest.raises(UserError, match="--face_recognition is of a FaceID file beside an --expression_adapter"):
        load_pipeline(folder, cpu=True, face_recognition="face.onnx")
    with pytest.raises(UserError, match="adapters-sdxl.*cross-attention"):
        load_pipeline(folder, cpu=True, expression_adapter=str(workshop / "adapters-sdxl"))
    with pytest.raises(UserError, match="not a folder of DeepExpr adapters"):
        load_pipeline(folder, cpu=True, expression_adapter=str(tmp_path))


# --------------------------------------------------------------------------------------------------------------- errors


def test_files_that_are_none_of_ours_or_of_another_base_are_told(workshop, tmp_path):
    unet = tiny_base.unet("sd15")
    states = [load_checkpoint(workshop / "adapters-sd15" / name) for name in ADAPTER_FILES]
    with pytest.raises(UserError, match="expression: made for bases with cross-attention"):
        attach(tiny_base.unet("sdxl"), [load_checkpoint(workshop / "adapters-sdxl" / ADAPTER_FILES[0]), states[1]])
    del states[1]["image_proj"]["layers.2.1.3.weight"]
    with pytest.raises(UserError, match="expression: an IP-Adapter Plus file of another size"):
        attach(unet, states)
    del states[1]["image_proj"]["proj_in.weight"]
    with pytest.raises(UserError, match="expression: not an IP-Adapter FaceID file .* nor an IP-Adapter Plus file"):
        attach(unet, states)


@pytest.mark.parametrize(
    "option, value, expected",
    [
        ("exemplar_params", {}, "null"),
        ("expression_inject", "mid", "null"),
        ("inject", "all", "nothing"),
    ],
)
def test_a_branch_reads_no_exemplars_and_has_a_place_of_its_own(option, value, expected):
    values = {"adapter": "branch", option: value, "base_params": {"path": "x"}}
    values["sid_params"] = {"config": "x", "checkpoint": "x"}
    with pytest.raises(UserError, match=f"model_params.{option}: expected {expected} with adapter: branch"):
        mef_config_from_dict({"dataset_params": {"root_dir": "x"}, "model_params": values})


# ------------------------------------------------------------------------------------------------------------- training


class ExemplarBench(Bench):
    def pretend_training(self) -> None:
        as_if_trained(self.adapters)


def test_a_cached_step_is_one_that_reads_the_pictures_anew(workshop):
    changes = READS | {"model_params.expression_inject": "up", "train_params.loss_weights.expression": 0.1}
    cached, anew = ExemplarBench(workshop, **changes), ExemplarBench(workshop, cached=False, **changes)
    assert cached.cache.exemplar(3).dtype == torch.float16
    assert cached.batch([0, 1])["exemplar"].shape == (2, CELLS, WIDTH)
    one, other = cached.losses(cached.batch([0, 1, 2, 3])), anew.losses(anew.batch([0, 1, 2, 3]))
    assert one == pytest.approx(other, rel=1e-3)  # exemplars are kept in half precision
    assert torch.cosine_similarity(cached.gradient(), anew.gradient(), dim=0) > 0.999


def test_an_expression_left_out_is_a_sequence_of_zeros(workshop):
    """As in the other half of guidance."""
    bench = ExemplarBench(workshop, **READS)
    batch = bench.batch([0, 1])
    batch["keep"] = torch.tensor([[True, True, False]] * 2)
    without = bench.losses(batch)
    assert bench.losses(batch | {"exemplar": torch.zeros(2, CELLS, WIDTH)}) == without
    batch["keep"] = torch.ones(2, 3, dtype=torch.bool)
    assert bench.losses(batch) != without


def test_it_learns_which_expression_is_whose(workshop):
    """Some steps on two pictures of one person under one noise: the loss falls, and the other's exemplar raises it."""
    changes = {"train_params.min_snr_gamma": None, "train_params.lr": 3e-3, "model_params.inject": "all"}
    bench = ExemplarBench(workshop, **ALWAYS_GIVEN, **changes, **READS)
    batch = bench.batch([0, 2])
    batch |= {"timestep": torch.full((2,), 600), "keep": torch.ones(2, 3, dtype=torch.bool)}
    batch["identity"] = batch["identity"][:1].expand(2, -1)
    batch["text_states"] = batch["text_states"][:1].expand(2, -1, -1)
    optimizer = bench.learning.objectives[0].optimizers["optimizer_adapters"]
    losses = []
    for _ in range(40):
        loss = bench.step(batch)[0]["diffusion"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    swapped = bench.step(batch | {"exemplar": batch["exemplar"].flip(0)})[0]["diffusion"].item()
    assert swapped > 1.01 * losses[-1]


def test_it_begins_beside_a_trained_adapter_of_identity(workshop, tmp_path, capsys):
    options = {"train_params.num_epochs": 1, "train_params.precision": "fp32"}
    vectors = train(write_config(tmp_path / "vectors.yaml", workshop, **options), log_dir=str(tmp_path / "log"))
    still = options | {"train_params.lr": 1e-12, "train_params.warmup_steps": 0}
    config = write_config(tmp_path / "exemplars.yaml", workshop, **still, **READS)
    started = vectors / "adapters"
    folder = train(config, log_dir=str(tmp_path / "log"), checkpoint=str(started), finetune=True)
    assert "its expression_adapter reads embeddings of another kind: that part begins anew" in capsys.readouterr().out
    before, after = read_adapters(started), read_adapters(folder / "adapters")
    for part in ("image_proj", "ip_adapter"):
        torch.testing.assert_close(after["identity_adapter"][part], before["identity_adapter"][part])
    torch.testing.assert_close(after["expression_adapter"]["ip_adapter"], before["expression_adapter"]["ip_adapter"])
    assert "latents" in after["expression_adapter"]["image_proj"]


def test_a_run_leaves_a_folder_that_draws_as_its_checkpoint_does(workshop, tmp_path):
    options = {"train_params.num_epochs": 1, "train_params.precision": "fp32"}
    config = write_config(tmp_path / "run.yaml", workshop, **options, **READS)
    folder = train(config, log_dir=str(tmp_path / "log"))
    assert json.loads((folder / "adapters" / CONFIG).read_text())["exemplar_encoder"] == "sid"
    pipeline = DeepExprPipeline.from_pretrained(folder / "adapters")
    [checkpoint] = folder.glob("*-checkpoint*")
    again = DeepExprPipeline.from_checkpoint(checkpoint)
    assert_identical(pipeline.adapters.state(), again.adapters.state())
    assert np.array_equal(draw(pipeline, workshop), draw(again, workshop))
    assert np.abs(draw(pipeline, workshop) - draw(pipeline, workshop, "p0_3")).max() > 0


# --------------------------------------------------------------------------------------------------------------- layers


def test_layers_are_sorted_by_what_the_expression_changes_in_the_face(workshop):
    """The layer made a hundred times as weak comes last, those without the expression not at all."""
    pipeline = DeepExprPipeline.from_pretrained(workshop / "adapters-sd15")
    portraits, _ = read_portraits(workshop / "portraits")
    names = [name.removesuffix(".attn2") for name in cross_attention_layers(pipeline.base.unet)]
    before = {reaction.layer: reaction.inside for reaction in reactions(pipeline, portraits)}
    assert set(before) == {names[1], names[2]} and min(before.values()) > 0
    with torch.no_grad():
        pipeline.adapters.layers[1].to_v_ip[1].weight *= 0.01
    found = reactions(pipeline, portraits)
    assert [reaction.layer for reaction in found] == [names[2], names[1]]
    assert found[0].inside == pytest.approx(before[names[2]]) and found[1].inside < 0.2 * before[names[1]]
    assert suggested(found) == [names[2]]
    assert [layer.scale for layer in pipeline.adapters.layers[1:]] == [[1, 1], [1, 1], [1, 0]]  # as before
    held = injected_layers(pipeline.base.unet, suggested(found))
    assert held[2] and not held[0] and not held[3]  # it is what expression_inject takes
    with pytest.raises(UserError, match="none has a face mask and another picture"):
        reactions(pipeline, portraits[:1])
