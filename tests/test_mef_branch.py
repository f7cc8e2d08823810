"""MEF's branch: a copy of the base's encoder that changes nothing until it is trained, and what works beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scripts
import tiny_base
import torch
from diffusers import (
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.models.attention_processor import Attention
from test_mef import PROMPT, SAME, arguments, controlnet, embedder, embeddings, half, picture
from test_mef_training import ALWAYS_GIVEN, PARAMETERS, Bench, learns_to_tell_apart, train
from test_training import assert_identical
from tiny_mef import WIDTHS, values, write_config, write_workshop

from modules.config.files import mef_config_from_dict
from modules.config.mef import AdapterParams, BaseParams
from modules.errors import UserError
from modules.mef.adapters import attach_new
from modules.mef.base import load_base
from modules.mef.branch import TOKENS_FILE, Branch, PositionalAttnProcessor, attach_branch, new_branch
from modules.mef.conditions import Widths
from modules.mef.pipeline import DeepExprPipeline
from modules.training.checkpoint import load_checkpoint

FUSIONS = ("plain", "positional")
BRANCH = {"model_params.adapter": "branch"}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """Bases of every kind, a SID, portraits, and a folder of a branch for each base: ``<fusion>-<kind>``."""
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    for kind in tiny_base.KINDS:
        for fusion in FUSIONS:
            pipeline = untrained(folder, kind, fusion)
            as_if_trained(pipeline.adapters)
            pipeline.save_pretrained(folder / f"{fusion}-{kind}")
    return folder


def untrained(folder: Path, kind: str, fusion: str) -> DeepExprPipeline:
    params = BaseParams(path=str(folder / kind))
    base = load_base(params)
    torch.manual_seed(0)
    branch = new_branch(base, Widths(*WIDTHS), (AdapterParams(), AdapterParams(tokens=2)), fusion)
    return DeepExprPipeline(base, branch, embedder(folder), params)


def as_if_trained(branch: Branch) -> None:
    """Zero convolutions that are not zero: else nothing else matters."""
    joints = [*branch.controlnet.controlnet_down_blocks, branch.controlnet.controlnet_mid_block]
    for joint in joints:
        torch.nn.init.normal_(joint.weight, std=0.2)


def ours(workshop: Path, kind: str = "sd15", fusion: str = "plain", **options) -> DeepExprPipeline:
    return DeepExprPipeline.from_pretrained(workshop / f"{fusion}-{kind}", **options)


def draw(pipeline: DeepExprPipeline, identity: float = 1.0, expression: float = 1.0, **options) -> np.ndarray:
    """A picture from the embeddings times these factors."""
    z_id, z_exp = embeddings()
    given = {"identity_embedding": identity * z_id, "expression_embedding": expression * z_exp}
    return pipeline(PROMPT, **given, **arguments(**options)).images


def stock(workshop: Path, kind: str, **options):
    pipeline = (StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline).from_pretrained(
        workshop / kind, **options
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# -------------------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("kind", tiny_base.KINDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_new_branch_leaves_the_bases_picture_as_it_is(workshop, kind, fusion):
    plain = stock(workshop, kind)(PROMPT, **arguments()).images
    assert np.array_equal(draw(untrained(workshop, kind, fusion)), plain)
    trained = ours(workshop, kind, fusion)
    assert np.abs(draw(trained) - plain).max() > 0.01
    assert np.array_equal(draw(trained, identity_scale=0.0, expression_scale=0.0), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_so_it_does_in_half_precision(workshop, dtype):
    new = untrained(workshop, "sd15", "plain").to("cpu", dtype)
    assert new.adapters.controlnet.dtype == dtype
    assert np.array_equal(draw(new), stock(workshop, "sd15", torch_dtype=dtype)(PROMPT, **arguments()).images)
    assert ours(workshop, dtype=dtype).adapters.controlnet.dtype == dtype


@pytest.mark.parametrize("kind", tiny_base.KINDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_saved_branch_draws_the_same_and_is_a_controlnet(workshop, tmp_path, kind, fusion):
    pipeline = ours(workshop, kind, fusion)
    pipeline.save_pretrained(tmp_path / "again")
    again = DeepExprPipeline.from_pretrained(tmp_path / "again")
    assert again.adapters.fusion == fusion and again.adapters.widths == WIDTHS
    assert_identical(pipeline.adapters.state(), again.adapters.state())
    assert np.array_equal(draw(again), draw(pipeline))
    names = {path.relative_to(tmp_path / "again").as_posix() for path in (tmp_path / "again").rglob("*.*")}
    files = {"branch/config.json", "branch/diffusion_pytorch_model.safetensors", TOKENS_FILE}
    assert names - {"README.md"} == files | {"config.json", "sid_encoders.safetensors"}
    theirs = ControlNetModel.from_pretrained(tmp_path / "again" / "branch")
    assert_identical(theirs.state_dict(), pipeline.adapters.controlnet.state_dict())


@pytest.mark.parametrize(("kind", "fusion"), [("sd15", "plain"), ("sdxl", "plain"), ("sd15", "positional")])
def test_a_stock_controlnet_pipeline_draws_the_same_if_the_controlnet_is_shown_the_tokens(workshop, kind, fusion):
    """As docs/draw.md says: a stock pipeline shows its ControlNet the prompt, which a hook exchanges for the tokens."""
    pipeline = ours(workshop, kind, fusion)
    pairs = [torch.cat([torch.zeros_like(z), z])[:, None] for z in embeddings()]  # unconditional zeros first
    with torch.no_grad():
        tokens = pipeline.adapters.tokens(*pairs)
    make = StableDiffusionXLControlNetPipeline if kind == "sdxl" else StableDiffusionControlNetPipeline
    net = ControlNetModel.from_pretrained(workshop / f"{fusion}-{kind}" / "branch")
    if fusion == "positional":
        processors = {n: PositionalAttnProcessor() if "attn2" in n else p for n, p in net.attn_processors.items()}
        net.set_attn_processor(processors)
    theirs = make(**stock(workshop, kind).components, controlnet=net)
    theirs.set_progress_bar_config(disable=True)
    hook = net.register_forward_pre_hook(
        lambda net, args, kwargs: (args, kwargs | {"encoder_hidden_states": tokens}), with_kwargs=True
    )
    drawn = [theirs(PROMPT, image=image, **arguments()).images for image in (picture().point(lambda _: 0), picture())]
    assert np.abs(drawn[0] - draw(pipeline)).max() <= SAME
    assert np.array_equal(*drawn)  # the picture that a ControlNet asks for shows it nothing
    hook.remove()
    assert np.abs(theirs(PROMPT, image=picture(), **arguments()).images - draw(pipeline)).max() > 0.01


def test_strength_is_of_what_is_added_and_shares_are_of_embeddings(workshop):
    pipeline = ours(workshop)
    full = draw(pipeline)
    assert np.array_equal(draw(pipeline, identity_scale=0.0), draw(pipeline, identity=0.0))
    assert np.array_equal(draw(pipeline, expression_scale=0.0), draw(pipeline, expression=0.0))
    assert np.array_equal(draw(pipeline, identity_scale=0.5), draw(pipeline, identity=0.5))
    assert not np.array_equal(draw(pipeline, identity=0.0), draw(pipeline, expression=0.0))
    scales = [draw(pipeline, identity_scale=s, expression_scale=s) for s in (0.0, 1e-3, 0.5, 1.0)]
    assert np.array_equal(scales[-1], full)
    away = [np.abs(image - scales[0]).mean() for image in scales]
    assert away == sorted(away) and away[1] < 0.01 * away[3]  # nothing jumps where it is turned off


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_guidance_of_each_condition_reaches_the_branch(workshop, kind, fusion):
    pipeline = ours(workshop, kind, fusion)
    ordinary = draw(pipeline)
    assert np.abs(draw(pipeline, identity_guidance=4.0) - ordinary).max() <= 10 * SAME  # divided and multiplied by 4
    assert np.abs(draw(pipeline, identity_guidance=1.0) - ordinary).max() > 1e-3
    assert np.abs(draw(pipeline, expression_guidance=1.0) - draw(pipeline, identity_guidance=1.0)).max() > 1e-3
    assert np.array_equal(draw(pipeline), ordinary)  # nothing stays behind
    assert not pipeline.base.unet._forward_pre_hooks


def test_each_prompt_may_have_an_embedding_of_its_own(workshop):
    pipeline, prompts = ours(workshop), ["a red hat", "a blue hat"]
    people = [torch.cat([z, -z]) for z in embeddings()]

    def paint(prompt, identity, expression, seeds):
        noise = {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
        given = {"identity_embedding": identity, "expression_embedding": expression}
        return pipeline(prompt, **given, **arguments(**noise)).images

    together = paint(prompts, *people, (0, 1))
    for i, prompt in enumerate(prompts):
        alone = paint(prompt, people[0][i], people[1][i], (i,))
        assert np.abs(together[i] - alone[0]).max() <= SAME


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_lora_and_another_scheduler_work_beside_it(workshop, kind):
    peft = pytest.importorskip("peft")

    def prepare(base) -> None:
        torch.manual_seed(4)
        lora = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)
        base.unet.add_adapter(lora)
        base.scheduler = DPMSolverMultistepScheduler.from_config(base.scheduler.config)

    theirs, pipeline = stock(workshop, kind), ours(workshop, kind)
    before = draw(pipeline)
    prepare(theirs)
    prepare(pipeline.base)
    plain = theirs(PROMPT, **arguments()).images
    assert np.array_equal(draw(pipeline, identity_scale=0.0, expression_scale=0.0), plain)
    drawn = draw(pipeline)
    assert min(np.abs(drawn - plain).max(), np.abs(drawn - before).max()) > 0.01
    # a base that has a LoRA already takes the branch as well
    assert np.array_equal(draw(ours(workshop, kind, base=pipeline.base)), drawn)


def test_other_tasks_and_another_controlnet_work_beside_it(workshop):
    parts = load_base(BaseParams(path=str(workshop / "sd15"))).components
    task = StableDiffusionImg2ImgPipeline(**parts)
    task.set_progress_bar_config(disable=True)
    pipeline = ours(workshop, base=task)
    options = {"image": picture(), "strength": 0.9}
    off = draw(pipeline, identity_scale=0.0, expression_scale=0.0, **options)
    assert np.array_equal(off, task(PROMPT, **arguments(**options)).images)
    assert np.abs(draw(pipeline, **options) - off).max() > 0.01

    both = StableDiffusionControlNetPipeline(**parts, controlnet=controlnet())
    both.set_progress_bar_config(disable=True)
    pipeline = ours(workshop, base=both)
    alone = both(PROMPT, image=picture(), **arguments()).images
    assert np.array_equal(draw(pipeline, identity_scale=0.0, expression_scale=0.0, image=picture()), alone)
    silent = draw(pipeline, image=picture(), controlnet_conditioning_scale=0.0)
    assert np.abs(silent - draw(ours(workshop))).max() <= SAME  # what is added to nothing is the branch's
    assert np.abs(draw(pipeline, image=picture()) - alone).max() > 0.01


def test_positional_attention_is_its_formula():
    """Written out in a loop over heads, tokens and positions."""
    torch.manual_seed(1)
    attention = Attention(query_dim=6, cross_attention_dim=5, heads=2, dim_head=3, processor=PositionalAttnProcessor())
    features, tokens = torch.randn(2, 7, 6), torch.randn(2, 4, 5)
    with torch.no_grad():
        found = attention(features, encoder_hidden_states=tokens)
        q, k, v = attention.to_q(features), attention.to_k(tokens), attention.to_v(tokens)
        read = torch.zeros(2, 7, 6)
        for b in range(2):
            for part in (slice(0, 3), slice(3, 6)):
                for n in range(4):
                    scores = torch.stack([q[b, p, part] @ k[b, n, part] / 3**0.5 for p in range(7)])
                    for p, share in enumerate(scores.softmax(dim=0)):
                        read[b, p, part] += 7 / 4 * share * v[b, n, part]
        assert torch.allclose(found, attention.to_out[0](read), atol=1e-5)  # float32 sums in another order


# ------------------------------------------------------------------------------------------------------------- training


class BranchBench(Bench):
    """As :class:`Bench`, with zero convolutions that are not zero unless it is ``new``."""

    def __init__(self, workshop: Path, kind: str = "sd15", new: bool = False, **changes):
        self.new = new
        super().__init__(workshop, kind, **BRANCH | changes)

    def pretend_training(self) -> None:
        if not self.new:
            as_if_trained(self.adapters)


@pytest.mark.parametrize("kind", tiny_base.KINDS)
def test_training_begins_with_the_bases_own_loss_and_trains_the_copy_alone(workshop, kind):
    new = BranchBench(workshop, kind, new=True)
    batch = new.batch([0, 1, 2, 3])
    loss = new.losses(batch)["diffusion"]
    trained = {name for name, p in new.step.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained and all(".controlnet_down_blocks." in name or ".controlnet_mid_block." in name for name in trained)
    new.adapters.scales = (0.0, 0.0)
    assert loss == new.step(batch)[0]["diffusion"].item()

    bench = BranchBench(workshop, kind)
    bench.losses(batch)
    graded = {name for name, p in bench.step.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.partition(".")[0] for name in graded} == {"adapters"}
    for part in (
        "controlnet.conv_in",
        "controlnet.down_blocks",
        "controlnet.mid_block",
        "projections.0",
        "projections.1",
    ):
        assert any(name.startswith(f"adapters.{part}.") for name in graded), part
    assert not any("controlnet_cond_embedding" in name for name in graded)  # no picture is shown


@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_learns_to_tell_people_apart(workshop, fusion):
    changes = {"train_params.min_snr_gamma": None, "train_params.lr": 3e-3, "model_params.fusion": fusion}
    learns_to_tell_apart(BranchBench(workshop, new=True, **ALWAYS_GIVEN, **changes), steps=60)


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_recomputed_activations_give_the_same_gradients(workshop, kind):
    plain = BranchBench(workshop, kind)
    thrifty = BranchBench(workshop, kind, **{"train_params.gradient_checkpointing": True})
    thrifty.adapters.load(plain.adapters.state(), "plain")
    calls, losses, gradients = [], [], []
    for bench in (plain, thrifty):
        count = []
        bench.step.train()  # as the loop has it: else nothing is recomputed
        resnet = bench.adapters.controlnet.down_blocks[0].resnets[0]
        resnet.conv1.register_forward_hook(lambda *_, count=count: count.append(1))
        losses.append(bench.losses(bench.batch([0, 1, 2, 3]))["diffusion"])
        gradients.append(bench.gradient())
        calls.append(len(count))
    assert calls[1] == 2 * calls[0] > 0
    assert losses[0] == losses[1]
    assert gradients[0].any() and torch.equal(gradients[0], gradients[1])


def test_the_copy_learns_in_float32_beside_a_base_in_bf16(workshop):
    bench = BranchBench(workshop, **{"train_params.precision": "bf16"})
    exact = BranchBench(workshop)
    exact.adapters.load(bench.adapters.state(), "bf16")
    assert {p.dtype for p in bench.adapters.parameters()} == {torch.float32}
    assert bench.frozen.base.unet.conv_in.weight.dtype == torch.bfloat16
    batch = bench.batch([0, 1, 2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        rough = bench.losses(batch)["diffusion"]
    assert rough == pytest.approx(exact.losses(exact.batch([0, 1, 2, 3]))["diffusion"], rel=0.05)
    assert bench.gradient().dtype == torch.float32 and bench.gradient().any()


@pytest.fixture(scope="module")
def run(workshop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    changes = BRANCH | {"model_params.fusion": "positional", "train_params.loss_weights": {"identity": 0.1}}
    return train(write_config(folder / "tiny.yaml", workshop, **changes), log_dir=str(folder / "log"))


def test_a_run_leaves_a_folder_and_checkpoints_that_draw_the_same(run, tmp_path, monkeypatch, capsys):
    checkpoint = run / "00000001-checkpoint.pth.tar"
    one, other = DeepExprPipeline.from_pretrained(run / "adapters"), DeepExprPipeline.from_checkpoint(checkpoint)
    assert one.adapters.fusion == other.adapters.fusion == "positional"
    assert np.array_equal(draw(one), draw(other))
    assert (run / "train-vis" / "00000001-rec.png").is_file()
    saved = load_checkpoint(checkpoint)
    assert_identical(saved["ema"]["branch"], one.adapters.state()["branch"])  # the averaged weights are the ones to use
    assert (
        scripts.run("-m", "modules.mef.export", "--checkpoint", checkpoint, "--out", tmp_path / "half").returncode == 0
    )
    halved = DeepExprPipeline.from_pretrained(tmp_path / "half")
    assert halved.adapters.controlnet.dtype == torch.float32
    assert np.abs(draw(halved) - draw(one)).max() < 0.02  # weights of 11 bits
    sizes = [
        (f / "branch" / "diffusion_pytorch_model.safetensors").stat().st_size
        for f in (tmp_path / "half", run / "adapters")
    ]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_new_run_starts_from_its_folder_and_the_other_form_says_so(run, workshop, tmp_path):
    changes = BRANCH | {"train_params.lr": 0, "train_params.num_epochs": 1, "train_params.ema_decay": None}
    config = write_config(tmp_path / "tiny.yaml", workshop, **changes)
    folder = train(config, checkpoint=str(run / "adapters"), finetune=True, log_dir=tmp_path / "log")
    ends = [DeepExprPipeline.from_pretrained(f / "adapters").adapters.state() for f in (run, folder)]
    assert_identical(*ends)
    config = write_config(tmp_path / "adapters.yaml", workshop)
    with pytest.raises(UserError, match="not a checkpoint of MEF's adapters: it has no identity_adapter"):
        train(config, checkpoint=str(run / "adapters"), finetune=True, log_dir=tmp_path / "log")
    made = train(config, log_dir=str(tmp_path / "log"))
    config = write_config(tmp_path / "branch.yaml", workshop, **BRANCH)
    with pytest.raises(UserError, match="holds no branch: it was trained with another model_params.adapter"):
        train(config, checkpoint=str(made / "adapters"), finetune=True, log_dir=tmp_path / "log")


def test_two_processes_step_like_one(workshop, tmp_path):
    changes = BRANCH | {"train_params.num_repeats": 1, "train_params.gradient_accumulation": 2}
    config = write_config(tmp_path / "tiny.yaml", workshop, **changes)
    script = tmp_path / "parameters.py"
    script.write_text(PARAMETERS.format(config=str(config), out=str(tmp_path / "p")))
    scripts.run_together(2, script)
    exec(compile(script.read_text(), str(script), "exec"), {})  # one process: this one
    one, two, other = (torch.load(tmp_path / f"p-{name}.pth", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert_identical(two, other)
    for key, value in one["branch"]["controlnet"].items():
        # Adam divides by the root of tiny squares: rounding shows where gradients are nearly nothing
        assert float((two["branch"]["controlnet"][key] - value).abs().max()) < 0.2 * 1e-2, key


# ------------------------------------------------------------------------------------------------------------ bad input


def test_what_a_branch_cannot_do_is_one_line(workshop):
    pipeline = ours(workshop)
    with pytest.raises(UserError, match="scale: a branch takes one number of 0 or more"):
        draw(pipeline, identity_scale={"mid": 1.0})
    with pytest.raises(UserError, match="scale: a branch takes one number of 0 or more"):
        draw(pipeline, expression_scale=-1.0)
    with pytest.raises(UserError, match="a branch acts on all of the picture"):
        draw(pipeline, identity_mask=half())


def test_a_branch_of_another_base_is_one_line(workshop):
    with pytest.raises(UserError, match="branch: controlnet is of another base"):
        ours(workshop, base=str(workshop / "sd21"))
    with pytest.raises(UserError, match="branch: controlnet is of another base"):
        ours(workshop, "sdxl", base=str(workshop / "sd15"))
    base = load_base(BaseParams(path=str(workshop / "sd15")))
    with pytest.raises(UserError, match="here: not a branch of DeepExpr: it lacks the layers that make tokens"):
        attach_branch(base, {"controlnet": {}}, "here", "plain")
    attach_new(base.unet, Widths(*WIDTHS), (AdapterParams(),) * 2, "all")
    with pytest.raises(UserError, match="this base's UNet cannot have a branch"):
        ours(workshop, base=base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fusion": "middling"}, "fusion: expected plain or positional, found 'middling'"),
        ({"fusion": ["plain"]}, "fusion: expected plain or positional"),
        ({"adapter": "twig"}, "adapter: expected branch, or nothing for adapters, found 'twig'"),
    ],
)
def test_a_damaged_folder_is_one_line(workshop, tmp_path, change, message):
    folder = tmp_path / "branch"
    shutil.copytree(workshop / "plain-sd15", folder)
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(description | change))
    with pytest.raises(UserError) as error:
        DeepExprPipeline.from_pretrained(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["branch/diffusion_pytorch_model.safetensors", TOKENS_FILE])
def test_a_file_that_is_missing_or_cut_short_is_named(workshop, tmp_path, name):
    folder = tmp_path / "branch"
    shutil.copytree(workshop / "plain-sd15", folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:200])
    with pytest.raises(UserError, match=f"{name}: neither a PyTorch nor a safetensors file"):
        DeepExprPipeline.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such checkpoint file"):
        DeepExprPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_params.adapter": "brunch"}, "model_params.adapter: expected ip_adapter or branch, found 'brunch'"),
        ({"model_params.fusion": "sum"}, "model_params.fusion: expected plain or positional, found 'sum'"),
    ],
)
def test_unknown_forms_are_one_line(workshop, change, message):
    with pytest.raises(UserError) as error:
        mef_config_from_dict(values(workshop, **change))
    assert message in str(error.value) and "\n" not in str(error.value)
