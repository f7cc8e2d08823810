"""What comes with the project works by itself: weights, inputs, and the command without arguments."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from diffusers import StableDiffusionPipeline

from modules import media
from modules.config.files import load_config, load_rigged_config
from modules.data.sampling import build_loader
from modules.data.synthetic.dataset import Plan, write_dataset
from modules.evaluation.judges.face_meter import find_meter, load_meter
from modules.evaluation.ruler import calibrate
from modules.faces.analysis import load_analyser
from modules.media.tensors import to_tensor
from modules.mef.folder import ADAPTER_FILES
from modules.mef.pipeline import DeepExprPipeline
from modules.sid.frames import POINT_FRAMES
from modules.sid.framing import Framing
from modules.sid.model import SID
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.sid.weights import load_model

ROOT = Path(__file__).parent.parent


def test_bundled_weights_keep_within_their_budget():
    """24 MiB for a file of SID's, 72 MiB for all."""
    paths = [path for folder in ROOT.glob("*_Checkpoints") for path in folder.rglob("*")]
    sizes = {path: path.stat().st_size for path in paths if path.suffix in (".pth", ".safetensors")}
    assert max(size for path, size in sizes.items() if path.parent.name == "SID_Checkpoints") <= 24 * 2**20
    assert sum(sizes.values()) <= 72 * 2**20


def test_the_card_and_the_pages_name_the_weights_that_are_there_and_no_others():
    """Of earlier ones the log may tell, and the table of old command lines."""
    there = {path.name for path in (ROOT / "SID_Checkpoints").glob("*.pth")}
    card = ROOT / "SID_Checkpoints" / "README.md"
    pages = [
        ROOT / "README.md",
        card,
        *(path for path in (ROOT / "docs").glob("*.md") if path.name not in ("log.md", "install.md")),
    ]
    named = {path: set(re.findall(r"(?:face-meter|sid-[\w-]*cpk)\.pth", path.read_text("utf-8"))) for path in pages}
    assert named[card] == there
    assert not {path.name: names - there for path, names in named.items() if names - there}


def test_the_weights_with_fomms_key_points_fit_their_configuration():
    params = load_config(ROOT / "config" / "synthetic-128-adv.yaml").model_params
    assert load_model(params, ROOT / "SID_Checkpoints" / "sid-adv-cpk.pth").encoders is not None


@pytest.mark.parametrize("config, millions", [("sid-64", 2.9), ("synthetic-64", 2.9), ("sid-128", 4.8)])
def test_a_configuration_to_train_with_makes_as_large_a_model_as_it_says(config, millions):
    model = SID(load_config(ROOT / "config" / f"{config}.yaml").model_params)
    assert model.encoders is not None
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


@pytest.fixture(scope="module")
def rigged():
    return load_rigged(ROOT / "SID_Checkpoints" / "sid-rigged-256-cpk.pth")


def lip_gap(model, picture: np.ndarray) -> float:
    """Between the lips, in distances of the eyes' outer corners."""
    points = model.points(to_tensor([picture], "cpu"))[0]
    return float((points[14] - points[13]).norm() / (points[263] - points[33]).norm())


def test_a_driver_who_opens_the_mouth_opens_that_of_a_photograph(rigged):
    framing = Framing(POINT_FRAMES, params=load_rigged_config(ROOT / "config" / "rigged.yaml").framing_params, cpu=True)
    source = framing.source(ROOT / "Inputs" / "Identities" / "person-3.png")
    animator = RiggedAnimator(rigged, source.image)
    results = {
        name: next(animator.animate([framing.image(ROOT / "Inputs" / "driving static images" / f"{name}.png")]))
        for name in ("surprise", "sadness")
    }
    own, surprised, sad = (lip_gap(rigged, p) for p in (source.image, results["surprise"], results["sadness"]))
    assert surprised > own + 0.05 and surprised > sad + 0.05


def test_the_bundled_measuring_network_reads_people_it_never_saw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it is found wherever one is
    path = find_meter(None)
    meter = load_meter(path)
    found = calibrate(meter, meter.size, people=30, frames=5).errors["summary"]
    # who always says the mean is off by more than 10 degrees, and by half a distance of the pupils
    assert found["pose"] < 2 and found["landmarks"] < 0.11
    # of 200 people it reads 0.63 and 0.47; thirty tell these to a tenth
    assert found["action units, R2"] > 0.5 and found["identity parameters, R2"] > 0.35


# Of four pictures, the first two numbers of every field of a Reading in turn, without the scene's words but the first.
READ = {
    "Identities/person-1.png": [
        [-0.14034, -0.26137, -0.02530, -0.00702, -6.21161, -2.17259, -0.43395, 0.04772],
        [0.02769, 0.01365, -0.19058, 0.09207, 0.03047, 0.49980, -2.97146, -3.01302],
    ],
    "Identities/person-4.png": [
        [-0.49455, 0.69558, 0.00013, -0.00418, -1.18691, 1.77150, -0.36547, 0.08389],
        [-0.06369, -0.02003, -0.02291, 0.01432, 0.13704, 0.35206, -12.85704, -3.37198],
    ],
    "Identities/person-2.png": [
        [0.07519, 0.46657, -0.05873, 0.02363, -0.60221, 4.47442, -0.43992, 0.06711],
        [0.02991, 0.02483, -0.11665, 0.02945, 0.14931, 0.17245, -1.41730, -3.20026],
    ],
    "Identities/person-5.png": [
        [0.09646, 0.00239, 0.00671, -0.00132, -11.57810, -1.84026, -0.39113, 0.06281],
        [0.04746, -0.08429, 0.01183, -0.00127, 0.11673, 0.38837, -1.95245, -11.46170],
    ],
}


def test_drivers_are_seen_closely():
    """As pictures that models learn from: the face, brows to chin, fills about half of the frame's height."""
    folder, analyser = ROOT / "Inputs", load_analyser(torch.device("cpu"))
    pictures = [media.read_image(path) for path in sorted((folder / "driving static images").glob("*.png"))]
    for path in sorted((folder / "driving videos").glob("*.mp4")):
        frames = [frame.image for frame in media.read_video(path)]
        assert len(frames) == 100
        pictures.append(frames[0])  # without expression
    assert len(pictures) == 8 + 3
    for picture in pictures:
        marks = analyser.analyse(picture)[0].landmarks68
        assert 0.45 < float(marks[:17, 1].max() - marks[17:27, 1].min()) / len(picture) < 0.6


def test_the_ruler_stays_as_it_is():
    """Whatever becomes of the models: figures of now and of earlier are compared."""
    meter = load_meter(find_meter(None))
    pictures = [media.fit(media.read_image(ROOT / "Inputs" / name), meter.size, meter.size) for name in READ]
    with torch.inference_mode():
        found = meter(to_tensor(pictures))
    numbers = torch.cat([field.flatten(1)[:, :2] for field in (*found[:7], next(iter(found.scene.values())))], dim=1)
    torch.testing.assert_close(numbers, torch.tensor(list(READ.values())).flatten(1), atol=1e-4, rtol=1e-4)


def test_a_prompt_alone_draws_a_portrait_with_the_bundled_base(tmp_path):
    """What the prompt says of the background is what the picture's upper corners show."""

    def corners(prompt: str, fresh: bool = False) -> np.ndarray:
        options = ("--cpu", "--steps", "10", "--prompt", prompt)
        result = scripts.run(ROOT / "Inference.py", *options, cwd=tmp_path, fresh=fresh)
        assert result.returncode == 0, result.stderr
        picture = media.read_image(tmp_path / "result.png").astype(float)
        assert picture.shape == (128, 128, 3)
        return np.concatenate([picture[:24, :24], picture[:24, -24:]]).mean(axis=(0, 1))

    sentence = "a portrait photo of a person with short black hair, wearing a red shirt, in front of {}, in cool light"
    green = corners(sentence.format("a green wall"), fresh=True)
    night = corners(sentence.format("city lights at night"))
    assert green[1] > green[0] + 15 and green.mean() > night.mean() + 20


def test_the_bundled_folders_load_in_a_stock_pipeline_and_draw_the_same_picture():
    base, adapters = ROOT / "MEF_Checkpoints" / "base", ROOT / "MEF_Checkpoints" / "adapters"
    ours = DeepExprPipeline.from_pretrained(adapters, base=str(base), cpu=True)
    face = media.read_image(ROOT / "Inputs" / "Identities" / "person-3.png")
    faces = ours.embed(identity_image=face, expression_image=face)
    options = {"guidance_scale": 3.0, "num_inference_steps": 2, "output_type": "np"}
    stock = StableDiffusionPipeline.from_pretrained(base)
    stock.load_ip_adapter(str(adapters), subfolder="", image_encoder_folder=None, weight_name=list(ADAPTER_FILES))
    embeds = [torch.stack([torch.zeros_like(z), z]) for z in faces]
    theirs = stock("a person", ip_adapter_image_embeds=embeds, generator=torch.manual_seed(0), **options).images[0]
    embedded = {"identity_embedding": faces[0], "expression_embedding": faces[1]}
    own = ours("a person", generator=torch.manual_seed(0), **embedded, **options).images[0]
    assert np.abs(theirs - own).max() < 1e-4


def test_the_command_alone_animates_the_bundled_face(tmp_path):
    """The result moves with its driver: it is nearer to what it shows at the time than to its own mean picture."""
    result = scripts.run(ROOT / "Inference.py", "--cpu", cwd=tmp_path, fresh=True)
    assert result.returncode == 0, result.stderr
    frames = np.stack([frame.image for frame in media.read_video(tmp_path / "result.mp4")]).astype(float)
    assert frames.shape == (100, 256, 256, 3)  # the source picture, whole
    moved = np.abs(frames - frames.mean(axis=0)).mean()
    assert 1 < moved < 60, moved  # grey levels: neither a still picture nor noise
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.mp4"]


def test_training_on_the_face_world_sees_pictures_and_whose_they_are_and_nothing_of_the_truth(tmp_path):
    root = write_dataset(tmp_path / "world", Plan(identities=4, clips=2, frames=6, size=32), progress=False)
    config = load_config(ROOT / "config" / "synthetic-64.yaml")
    data = replace(config.dataset_params, root_dir=str(root), frame_shape=(32, 32, 3), cache_dir=None, num_workers=0)
    batch = next(iter(build_loader(data, config.train_params)))
    assert set(batch) == {"frames", "elsewhere", "times", "identity", "clip", "index", "unreadable"}
    assert batch["frames"].shape[1:] == (4, 3, 32, 32) and not any(batch["unreadable"])
    assert batch["identity"].unique().numel() <= 4 and batch["clip"].max() < 8
    assert {path.suffix for path in root.rglob("*") if path.is_file() and path.parent.name == "train"} == {".mp4"}
