"""What a user asks of motion beside a driver: regions, openings, gaze, edits, smoothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from skimage.data import astronaut

from modules import media
from modules.bundled import BUNDLED, bundled
from modules.errors import UserError
from modules.faces.landmarks68 import landmarks68
from modules.media.tensors import to_tensor
from modules.sid.directions import load_directions
from modules.sid.motion_options import MotionOptions
from modules.sid.options import edits, gaze, region
from modules.sid.rigged.animator import KIND, RiggedAnimator
from modules.sid.rigged.codes import EXPRESSION, UNITS
from modules.sid.rigged.model import load_rigged
from modules.world.control.chain import Chain
from modules.world.control.options import Control, listed
from modules.world.control.sliders import PRINCIPAL, SLIDERS
from modules.world.control.smoothing import OneEuro
from modules.world.control.units import EYES, GAZE, MOUTH, TURN, WIDE, Units, columns, lips_apart
from modules.world.parameters import ACTION_UNITS
from modules.world.puppets.states import CODES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model():
    return load_rigged(bundled("SID_Checkpoints/sid-rigged-256-cpk.pth"))


def close_crop() -> np.ndarray:
    return media.fit(astronaut()[0:220, 114:334], 256, 256)


def shown(model, control: Control, strength: float = 1.0) -> np.ndarray:
    """The astronaut, changed by options alone."""
    animator = RiggedAnimator(model, close_crop(), MotionOptions(control=control, strength=strength))
    (picture,) = animator.show(torch.zeros(1, EXPRESSION), [0.0])
    return picture


def gap(model, picture: np.ndarray) -> float:
    """Between the lips, read off the picture, in widths of the mouth."""
    return float(lips_apart(landmarks68(model.points(to_tensor([picture])))))


# --------------------------------------------------------------------------------------------------------- codes alone


def test_regions_share_out_every_number():
    both = Units().shares({"face": 1.0, "pose": 1.0})
    assert both.min() == both.max() == 1 and len(both) == len(CODES)
    parts = Units().shares({"eyes": 0.25, "mouth": 0.5})
    assert set(parts[columns(*EYES)].tolist()) == {0.25} == set(parts[GAZE].tolist())
    assert set(parts[columns(*MOUTH)].tolist()) == {0.5}
    assert not parts[columns("AU9")].any() and not parts[TURN.start :].any()
    assert set(EYES) | set(MOUTH) | {"AU9"} == set(ACTION_UNITS)


def test_a_part_of_the_face_goes_before_the_face():
    shares = Units().shares({"face": 1.0, "mouth": 0.0})
    assert not shares[columns(*MOUTH)].any()
    assert shares[columns(*EYES, "AU9")].min() == 1


def test_strength_multiplies_regions():
    chain = Chain.of_units(Control({"mouth": 0.5}), 2.0, Units())
    own, wanted = torch.zeros(1, len(CODES)), torch.ones(1, len(CODES))
    assert torch.equal(chain.composed(own, wanted)[0, columns(*MOUTH)], torch.ones(2 * len(MOUTH)))
    assert chain.composed(own, wanted).sum() == 2 * len(MOUTH)


def test_edits_add_up_in_the_units_of_codes():
    change = Units(gaze=20.0, turn=20.0).edited({"smile": 0.5, "look_right": 1.0, "turn": -1.0})
    assert torch.equal(change[columns("AU12")], torch.tensor([0.5, 0.5]))
    assert change[GAZE].tolist() == [1.0, 0.0] and change[TURN].tolist() == [-1.0, 0.0, 0.0]
    one_sided = Units().edited({"wink_left": 1.0})
    assert one_sided[columns("AU43", sides=("left",))] == 1 and one_sided.sum() == 1


def test_an_unknown_slider_is_told_with_its_neighbours():
    with pytest.raises(UserError, match="no slider is called 'smil'; did you mean smile"):
        Units().edited({"smil": 1.0})


def test_the_list_names_every_slider():
    lines = listed().splitlines()
    assert [line.split()[0] for line in lines if "  " in line] == [*SLIDERS, *PRINCIPAL]
    assert max(map(len, lines)) <= 120


def test_the_list_says_which_way_the_bundled_principal_sliders_go():
    """What the words name, in action units of the table: above 0, and below."""
    table = load_directions(bundled(BUNDLED["checkpoint"]))
    said = {
        "principal_1": (("AU1", "AU2", "AU5", "AU25", "AU26"), ("AU6", "AU7", "AU12")),
        "principal_2": (("AU12", "AU25"), ("AU4", "AU15")),
        "principal_3": (("AU9", "AU10"), ("AU1", "AU15")),
        "principal_4": (("AU6", "AU9", "AU10", "AU43"), ("AU5", "AU23")),
    }
    assert said.keys() == PRINCIPAL.keys() == table.sliders.keys()
    for name, (above, below) in said.items():
        numbers = torch.tensor(table.sliders[name])
        assert (numbers[columns(*above)] > 0).all(), name
        assert (numbers[columns(*below)] < 0).all(), name


def test_only_sliders_with_an_opposite_do_something_below_zero_to_a_face_at_rest():
    assert {name for name, slider in SLIDERS.items() if slider.goes_below} == {
        *("brows", "look_right", "look_up", "turn", "nod", "tilt")
    }


def test_what_is_set_does_not_depend_on_the_driver():
    control = Control(eyes=0.25, gaze=(1.0, -1.0), mouth=0.5)
    codes = torch.rand(4, len(CODES))

    def opening(tried: torch.Tensor) -> torch.Tensor:  # linear, as far as the openers go
        return 0.1 + 0.6 * tried[:, columns("AU26")].mean(dim=1)

    found = Units().set_to(codes, control, opening)
    assert torch.allclose(found[:, columns("AU43")], torch.tensor(0.75))
    assert found[:, GAZE].tolist() == [[20.0, -15.0]] * 4
    # 12 halvings of [0, 1]: 2e-4 of a unit, of which 0.6 is seen
    assert torch.allclose(opening(found), torch.tensor(WIDE * 0.5), atol=2e-4)
    others = [i for i in range(len(CODES)) if i not in columns("AU43", "AU5", "AU7", "AU25", "AU26")]
    others = [i for i in others if i not in range(GAZE.start, GAZE.stop)]
    assert torch.equal(found[:, others], codes[:, others])


# ----------------------------------------------------------------------------------------------------------- smoothing


def roughness(values: torch.Tensor) -> float:
    """Root mean square of the second difference over time."""
    return float(values.diff(n=2, dim=0).square().mean().sqrt())


def test_smoothing_calms_what_rests_and_follows_what_moves():
    generator = torch.Generator().manual_seed(0)
    noise = 0.03 * torch.randn(100, 3, generator=generator)
    rest = OneEuro(25.0)(noise)
    assert roughness(rest) < 0.3 * roughness(noise)
    # a blink of five frames: it may lose a third of its depth
    blink = torch.zeros(40, 1)
    blink[20:25] = torch.tensor([0.5, 1.0, 1.0, 1.0, 0.5])[:, None]
    assert OneEuro(25.0)(blink).max() > 0.66
    # a step is there after a fifth of a second
    step = (torch.arange(40) >= 20).float()[:, None]
    assert OneEuro(25.0)(step)[25] > 0.9


def test_smoothing_goes_by_time_not_by_frames():
    """Half of the frames of one motion give nearly the same, where they meet."""
    way = torch.sin(torch.linspace(0, 12, 201))[:, None]
    fast, slow = OneEuro(50.0)(way)[::2], OneEuro(25.0)(way[::2])
    assert (fast - slow).abs().max() < 0.05


def test_smoothing_does_not_depend_on_the_batch(model):
    frames = [np.roll(close_crop(), shift, axis=1) for shift in (0, 5, -4, 3)]
    options = MotionOptions(control=Control(smooth=True))
    made = [list(RiggedAnimator(model, close_crop(), options, batch_size=n).animate(frames)) for n in (1, 3)]
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(*made, strict=True))


# ------------------------------------------------------------------------------------------------------ the whole model


def test_the_mouth_opens_as_far_as_it_is_asked_to(model):
    asked = (0.0, 0.3, 0.6, 0.9)
    found = [gap(model, shown(model, Control(mouth=value))) / WIDE for value in asked]
    assert found == sorted(found)
    # the mesh reads the painted mouth to a tenth or so of a wide open one (benchmarks.control)
    assert np.allclose(found, asked, atol=0.2)


def test_eyes_close(model):
    eyes = (slice(80, 120), slice(90, 170))  # of the crop: lids cover what is white and dark
    still, closed, opened = (shown(model, Control(eyes=value)) for value in (None, 0.0, 1.0))
    assert np.abs(closed.astype(int) - still)[eyes].mean() > 3 * np.abs(opened.astype(int) - still)[eyes].mean()


def test_the_mouth_alone_follows_a_driver(model):
    driver = [close_crop(), shown(model, Control(mouth=0.8))]
    options = MotionOptions(control=Control({"mouth": 1.0}))
    source = np.ascontiguousarray(close_crop()[:, ::-1])
    animator = RiggedAnimator(model, source, options)
    _, moved = animator.animate(driver)
    assert gap(model, moved) > gap(model, source) + 0.1
    read = animator._look([source, moved]).semantics
    turned = (read.pose[1] - read.pose[0])[:3].abs().max() * 20
    assert turned < 3  # degrees: what the encoder is off by between two mouths


def test_a_smile_is_as_wide_as_its_slider_says(model):
    animator = RiggedAnimator(model, close_crop(), MotionOptions(control=Control(edits={"smile": 0.5})))
    change = animator.chain.change
    assert torch.equal(change, KIND.edited({"smile": 0.5}))
    assert change[:UNITS].abs().sum() == pytest.approx(2 * 0.5 * 1.5)
    # she smiles already: more of it is hard to see, and less is not
    calm, smiling = (shown(model, Control(edits={"smile": amount})) for amount in (-0.8, 0.4))
    corners = [landmarks68(model.points(to_tensor([picture])))[0, [48, 54]] for picture in (calm, smiling)]
    width = [float((c[0, :2] - c[1, :2]).norm()) for c in corners]
    assert width[1] > 1.05 * width[0], width


# -------------------------------------------------------------------------------------------------------- command lines


def test_options_are_read():
    assert region("mouth:0.5") == ("mouth", 0.5) and region("pose") == ("pose", 1.0)
    assert gaze("0.5,-1") == (0.5, -1.0)
    assert edits("smile=0.6, brows=-0.3") == {"smile": 0.6, "brows": -0.3}


ADV = ("--config", "config/synthetic-128-adv.yaml", "--checkpoint", "SID_Checkpoints/sid-adv-cpk.pth")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--region", "nose"], "'nose' is not face, eyes, mouth or pose"),
        (["--region", "mouth:x"], "'x' is not a number"),
        (["--region", "mouth", "--region", "mouth:0.5"], "names a region twice"),
        (["--region", "mouth", "--drive", "pose"], "give one of the two"),
        (["--region", "face", "--pose_video", "x.mp4"], "add --region pose"),
        (["--eyes", "1.5"], "1.5 is not from 0 to 1"),
        (["--gaze", "0.5"], "is not two numbers X,Y"),
        (["--edit", "smile"], "is not NAME=AMOUNT"),
        (["--edit", "smile=1,smile=2"], "smile is named twice"),
        (["--edit", "grin=1"], "no slider is called 'grin'"),
        (["--edit", "smile=1", "--strength", "0.5"], "--strength is of a driver, and there is none beside --edit"),
        (["--smooth", "--expression", "joy"], "--smooth is of a driver"),
        (["--motion", "keypoints", "--edit", "smile=1"], "--edit needs --motion embedding or mesh"),
        (["--prompt", "x", "--edit", "smile=1"], "--edit animates a photograph"),
        ([*ADV, "--eyes", "0.5"], "--eyes: this model's numbers are no action units"),
        ([*ADV, "--region", "mouth"], "--region mouth: this model knows the whole face alone"),
    ],
)
def test_what_cannot_be_is_one_line_with_status_2(options, said, tmp_path):
    result = ["--result_image", str(tmp_path / "r.png"), "--result_video", str(tmp_path / "r.mp4")]
    done = scripts.run(
        ROOT / "Inference.py", "--cpu", *options, *(result[:2] if {"--edit", "--eyes"} & set(options) else []), cwd=ROOT
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("PyTorch")]
    assert done.returncode == 2 and len(lines) == 1 and said in lines[0], done.stderr
    assert not list(tmp_path.iterdir())
