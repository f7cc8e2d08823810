"""Models made quicker for inference give what they gave."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from modules.config.files import load_config
from modules.data.astronaut import moving_face
from modules.errors import UserError
from modules.media.tensors import to_tensor
from modules.sid.animator import Animator
from modules.sid.blocks import UpBlock
from modules.sid.model import SID
from modules.sid.motion_options import MotionOptions
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.sid.tuned import doubling, half_precision, split, tuned
from modules.sid.weights import load_model

ROOT = Path(__file__).parent.parent


def psnr(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return peak_signal_noise_ratio(np.stack(a), np.stack(b))


def batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.fixture(scope="module")
def bundled() -> tuple[SID, list[np.ndarray]]:
    """The bundled model of 128 pixels with encoders, and frames for it."""
    params = load_config(ROOT / "config/synthetic-128-adv.yaml").model_params
    return load_model(params, ROOT / "SID_Checkpoints/sid-adv-cpk.pth").eval(), moving_face(1, 4, 128)


@pytest.mark.parametrize("motion", ["embedding", "keypoints"])
def test_folded_batch_norms_change_nothing(bundled, motion):
    model, (source, *frames) = bundled
    quick = tuned(deepcopy(model))
    assert batch_norms(quick) < batch_norms(model) / 2
    plain, same = (list(Animator(m, source, MotionOptions(motion)).animate(frames)) for m in (model, quick))
    assert psnr(plain, same) > 70


def test_the_rigged_model_is_folded_whole():
    path = ROOT / "SID_Checkpoints/sid-rigged-256-cpk.pth"
    source, *frames = moving_face(1, 3, 256)
    quick = tuned(load_rigged(path))
    assert batch_norms(quick) == 0
    plain, same, half = (
        list(RiggedAnimator(model, source, half=kind).animate(frames))
        for model, kind in ((load_rigged(path), None), (quick, None), (quick, torch.bfloat16))
    )
    assert psnr(plain, same) > 70
    assert 40 < psnr(plain, half) < 70  # it is computed in half precision, and hardly seen to be


def test_doubling_and_a_convolution_are_one():
    torch.manual_seed(0)
    block = UpBlock(6, 4).eval()
    x = torch.randn(2, 6, 5, 7)
    with torch.inference_mode():
        wanted = block(x)
        block.conv = doubling(block.conv)
        assert torch.allclose(block(x), wanted, atol=1e-6)  # edges and corners too


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_convolution_to_few_channels_is_split(outputs):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, outputs, 7, padding=3)
    x = torch.randn(2, 8, 11, 9)
    with torch.inference_mode():
        assert torch.allclose(split(conv)(x), conv(x), atol=1e-5)


def test_half_precision_moves_no_key_point(bundled):
    model, (source, *frames) = bundled
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        half = model.kp_detector(to_tensor(frames)).value
    plain = model.kp_detector(to_tensor(frames)).value
    assert half.dtype == torch.float32
    assert float((half - plain).abs().max()) < 0.02  # a pixel of 128 is 0.016
    results = [list(Animator(model, source, half=kind).animate(frames)) for kind in (None, torch.bfloat16)]
    assert psnr(*results) > 35


def test_what_is_computed_in():
    cpu = torch.device("cpu")
    assert half_precision("fp32", cpu) is None and half_precision("bf16", cpu) is torch.bfloat16
    assert half_precision("fp16", torch.device("cuda")) is torch.float16
    natively = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else None
    assert half_precision("auto", cpu) is natively
    with pytest.raises(UserError, match="--precision fp16"):
        half_precision("fp16", cpu)
