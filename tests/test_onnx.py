"""Models exported as ONNX files give, run by onnxruntime, what they give by PyTorch; faults are told in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import scripts
import torch
from skimage.metrics import peak_signal_noise_ratio
from tiny import OWN_EXPRESSION, randomized, write_tiny
from torch import nn

from modules import media
from modules.config.files import load_animation_config, load_config
from modules.data.astronaut import moving_face
from modules.errors import UserError
from modules.media.tensors import to_tensor
from modules.sid import weights
from modules.sid.animator import Animator
from modules.sid.model import SID
from modules.sid.motion_options import MotionOptions
from modules.sid.onnx.folder import load_folder, write_folder
from modules.sid.onnx.graph import inverse, solve
from modules.sid.onnx.layout import read_config
from modules.sid.onnx.session import provider_for
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.sid.weights import load_model
from modules.training.checkpoint import save_checkpoint

ROOT = Path(__file__).parent.parent
HEIGHT, WIDTH = 32, 48
LEAST = 50  # dB to PyTorch's results
# An export takes as long as there are layers, however small.
SHALLOW = {
    "model_params.kp_detector_params.num_blocks": 1,
    "model_params.generator_params.num_bottleneck_blocks": 1,
    "model_params.generator_params.dense_motion_params.num_blocks": 1,
}
PLAIN = {
    "model_params.encoder_params": None,
    "model_params.common_params.estimate_jacobian": False,
    "model_params.generator_params.estimate_occlusion_map": False,
    "train_params.head_probability": None,
    "train_params.loss_weights": None,
}


def psnr(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    with np.errstate(divide="ignore"):  # infinite where they are the same
        return peak_signal_noise_ratio(np.stack(a), np.stack(b))


def frames(count: int) -> list[np.ndarray]:
    return [media.fit(image, HEIGHT, WIDTH) for image in moving_face(1, count, 64)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder with a small model of frames that are not square, and with it exported: ``model.pth`` and ``onnx``."""
    folder = tmp_path_factory.mktemp("exported")
    shape = {"dataset_params.frame_shape": [HEIGHT, WIDTH, 3]}
    config = load_config(write_tiny(folder / "tiny.yaml", **SHALLOW, **OWN_EXPRESSION, **shape))
    torch.manual_seed(0)
    model = randomized(SID(config.model_params))
    model.encoders.semantic.in_mirror.fill_(1)  # an encoder of expressions that was taught
    nn.init.normal_(model.generator.dense_motion_network.face_flow.motions, std=0.05)
    model.train()
    batch = to_tensor(frames(8))
    for _ in range(4):  # batch norms that have seen frames, or nothing that is drawn would depend on anything
        found = model.kp_detector(batch)
        z, (shown, place) = model.encoders.identity(batch), model.encoders.semantic.located(batch)
        model.generator(batch, found, found, model.condition(z, shown, shown, place))
    save_checkpoint(weights.state(model.eval()), folder / "model.pth")
    write_folder(config, folder / "model.pth", folder / "onnx")
    return folder


def test_a_file_says_nothing_of_the_machine_it_was_made_on(exported):
    for path in (exported / "onnx").glob("*.onnx"):
        written = path.read_bytes()
        assert b"site-packages" not in written and str(ROOT).encode() not in written


@pytest.mark.parametrize("motion", ["embedding", "keypoints"])
@pytest.mark.parametrize("together", [1, 3])
def test_sid_by_onnxruntime_gives_what_it_gives_by_pytorch(exported, motion, together):
    source, *driving = frames(6)
    config = read_config(exported / "onnx")
    models = load_model(config.model_params, exported / "model.pth"), load_folder(config, exported / "onnx", "cpu")
    plain, same = (
        list(Animator(model, source, MotionOptions(motion), batch_size=together).animate(driving)) for model in models
    )
    assert psnr(plain, same) > LEAST
    assert psnr(plain, [plain[0]] * len(plain)) < LEAST - 10  # frames differ, so that parity says something


def test_a_model_without_encoders_is_exported(tmp_path):
    config = load_config(write_tiny(tmp_path / "plain.yaml", **SHALLOW, **PLAIN))
    model = randomized(SID(config.model_params))
    save_checkpoint(weights.state(model), tmp_path / "model.pth")
    write_folder(config, tmp_path / "model.pth", tmp_path / "onnx")
    source, *driving = moving_face(1, 4, 32)
    graphs = load_folder(config, tmp_path / "onnx", "cpu")
    plain, same = (list(Animator(m, source).animate(driving)) for m in (model, graphs))
    assert psnr(plain, same) > LEAST


def test_the_rigged_model_by_onnxruntime_gives_what_it_gives_by_pytorch(tmp_path):
    path = ROOT / "SID_Checkpoints/sid-rigged-256-cpk.pth"
    config = load_animation_config(ROOT / "config/rigged.yaml")
    write_folder(config, path, tmp_path / "onnx")
    large, *driving = moving_face(1, 4, 320)  # results have the source's own size
    small, *driving = (media.fit(image, 256, 256) for image in (large, *driving))
    plain, same = (
        list(RiggedAnimator(model, small, large=large).animate(driving))
        for model in (load_rigged(path), load_folder(config, tmp_path / "onnx", "cpu"))
    )
    assert same[0].shape == large.shape
    assert psnr(plain, same) > LEAST


def test_what_onnx_lacks_is_computed_as_pytorch_does():
    matrices = torch.randn(5, 7, 2, 2)
    # relative to entries of up to a few hundred, where a matrix is all but singular
    torch.testing.assert_close(inverse(matrices), torch.inverse(matrices), rtol=1e-4, atol=1e-4)
    design, wanted = torch.randn(5, 10, 3), torch.randn(5, 3, 2)
    gram = design.mT @ design + 1e-3 * torch.eye(3)
    torch.testing.assert_close(solve(gram, wanted), torch.linalg.solve(gram, wanted), rtol=1e-4, atol=1e-5)


def test_a_script_runs_the_folder(exported, tmp_path):
    media.write_image(tmp_path / "me.png", frames(1)[0])
    media.write_image(tmp_path / "driver.png", frames(3)[2])
    options = "--source_image", "me.png", "--reference_image", "driver.png", "--cpu"
    model = "--config", str(exported / "tiny.yaml"), "--checkpoint", str(exported / "model.pth"), "--precision", "fp32"
    for name, which in (("onnx.png", ("--onnx", str(exported / "onnx"))), ("torch.png", model)):
        done = scripts.run(ROOT / "Inference.py", *options, *which, "--result_image", name, cwd=tmp_path, timeout=120)
        assert done.returncode == 0, done.stderr
    pictures = [[media.read_image(tmp_path / name)] for name in ("onnx.png", "torch.png")]
    assert pictures[0][0].shape == (HEIGHT, WIDTH, 3)
    assert psnr(*pictures) > LEAST


OPTIONS = {
    ("--onnx", "nowhere"): "has no config.yaml; give a folder that python -m modules.sid.export --onnx wrote",
    ("--onnx", "{onnx}", "--config", "config/sid-64.yaml"): "--config is of a model in PyTorch",
    ("--onnx", "{onnx}", "--precision", "bf16"): "--precision is of a model in PyTorch",
    ("--onnx", "{onnx}", "--motion", "mesh"): "--onnx is of a model's motion",
    ("--onnx", "{onnx}", "--prompt", "a person"): "--onnx animates a photograph",
    ("--onnx", "{onnx}", "--onnx_provider", "cuda", "--cpu"): "--onnx_provider cuda needs a GPU, and --cpu uses none",
    ("--onnx_provider", "cpu"): "--onnx_provider is of --onnx",
}


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options_that_cannot_be_are_one_line(exported, tmp_path, options):
    given = [option.format(onnx=exported / "onnx") for option in options]
    done = scripts.run(ROOT / "Inference.py", *given, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and OPTIONS[options] in done.stderr
    assert done.stderr.count("\n") <= 2 and not list(tmp_path.iterdir())  # that there is no GPU may be told first


def test_other_files_than_exported_are_refused(exported, tmp_path):
    folder = tmp_path / "onnx"
    shutil.copytree(exported / "onnx", folder)
    shutil.copy(folder / "identity.onnx", folder / "semantics.onnx")
    config = read_config(folder)
    with pytest.raises(UserError, match="semantics.onnx: is not of the same export"):
        load_folder(config, folder, "cpu")
    whole = (folder / "generator.onnx").read_bytes()
    (folder / "generator.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="generator.onnx: onnxruntime cannot run it"):
        load_folder(config, folder, "cpu")
    (folder / "generator.onnx").unlink()
    with pytest.raises(UserError, match="has no generator.onnx"):
        read_config(folder)


def test_a_folder_in_use_is_not_written_to(exported, tmp_path):
    options = "--config", str(exported / "tiny.yaml"), "--checkpoint", str(exported / "model.pth")
    for place, message in ((exported / "onnx", "is not empty"), (exported / "model.pth", "is a file; give a folder")):
        done = scripts.run("-m", "modules.sid.export", *options, "--onnx", str(place), cwd=ROOT, timeout=120)
        assert done.returncode == 2 and message in done.stderr


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it is there")
def test_a_provider_that_is_not_there_is_not_replaced():
    with pytest.raises(UserError, match="pip install onnxruntime-gpu"):
        provider_for("cuda")
    assert provider_for(None) == "cpu"
