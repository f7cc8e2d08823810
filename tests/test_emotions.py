"""Expressions by name: the words in their tree, what they mean on a face, and photographs that show them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scripts
import tiny_mef
import torch
from scipy.stats import spearmanr
from skimage.data import astronaut
from tiny import randomized, tiny_params

from modules import media
from modules.config.mef import SIDParams
from modules.data.expression_bank import pictures_of_word
from modules.errors import UserError
from modules.mef.embeddings import Embedder, SIDEncoders
from modules.mef.inference import named_expression
from modules.sid.animator import Animator
from modules.sid.model import SID
from modules.sid.motion_options import MotionOptions
from modules.sid.named import FRAME_RATE, way_there_and_back
from modules.sid.rigged.animator import RiggedAnimator
from modules.sid.rigged.model import load_rigged
from modules.world import ACTION_UNITS, EXPRESSIONS
from modules.world.emotions import emotions, find, listed, parse, tree_distance
from modules.world.puppets.animator import PuppetAnimator
from modules.world.showing import draw_shown, state_of

ROOT = Path(__file__).parent.parent
FAMILIES = {"love": 16, "joy": 33, "surprise": 3, "anger": 29, "sadness": 37, "fear": 17}  # Shaver et al. 1987


def units_of(word: str) -> torch.Tensor:
    """[2, A] of the left side and the right one."""
    return state_of([(find(word), 1.0)]).units[0]


def unit(units: torch.Tensor, name: str) -> float:
    return float(units[..., ACTION_UNITS.index(name)].mean())


# ---------------------------------------------------------------------------------------------------------- the words


def test_the_tree_has_135_words_in_six_families():
    words = emotions()
    assert len(words) == 135
    assert {name: sum(word.family == name for word in words.values()) for name in FAMILIES} == FAMILIES
    for word in words.values():
        assert word.looks in EXPRESSIONS and word.units.keys() <= set(ACTION_UNITS), word
        assert all(0 < value <= 1 for value in word.units.values()), word
    printed = listed()
    assert all(printed.count(f" {name}") for name in words)


def test_words_that_people_sort_together_look_alike():
    words = list(emotions().values())
    units = torch.stack([units_of(word.name).flatten() for word in words])
    apart = torch.cdist(units, units)
    one, other = np.triu_indices(len(words), 1)
    steps = [tree_distance(words[i], words[j]) for i, j in zip(one, other, strict=True)]
    assert spearmanr(apart[one, other], steps)[0] > 0.5
    nearest = apart.fill_diagonal_(torch.inf).argmin(dim=1).tolist()
    near = [words[i].family == word.family for i, word in zip(nearest, words, strict=True)]
    # all but a few: longing is between love and joy, scorn looks as contempt does, which is of the same family
    assert sum(near) > 0.9 * len(words)


def test_mixtures_add_up():
    joy, surprise = units_of("joy"), units_of("surprise")
    both = state_of(parse("joy:0.6,Surprise:0.4")).units[0]
    assert torch.allclose(both, 0.6 * joy + 0.4 * surprise, atol=1e-6)
    assert torch.allclose(state_of(parse("joy, surprise")).units[0], (joy + surprise) / 2, atol=1e-6)
    assert torch.allclose(state_of(parse("joy:0.5,neutral:0.5")).units[0], joy / 2, atol=1e-6)
    assert float(state_of(parse("joy:1,bliss:1")).units.max()) == 1
    assert not state_of([]).units.any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("amazment", "'amazment' is not known; did you mean amazement"),
        ("qqq", "'qqq' is not known; Inference.py --list_expressions"),
        ("", "'' is not known"),
        ("joy:2", "joy:2: a weight is a number above 0, at most 1"),
        ("joy:x", "a weight is a number"),
        ("joy:nan", "a weight is a number"),
        ("joy:0,fear:1", "a weight is a number"),
        ("joy,Joy", "names a word twice"),
        ("joy:0.2,fear", "give every word a weight"),
    ],
)
def test_what_is_no_mixture_is_one_line(text, said):
    with pytest.raises(UserError, match="--expression") as stop:
        parse(text)
    assert said in str(stop.value) and "\n" not in str(stop.value)


def test_contempt_is_on_one_side_and_shame_looks_down():
    left, right = units_of("contempt")
    assert unit(left, "AU14") > 1.5 * unit(right, "AU14") > 0
    assert torch.equal(*units_of("joy"))
    assert float(state_of(parse("shame")).gaze[0, 1]) < -10 and not state_of(parse("joy")).gaze.any()


def test_faces_of_a_word_differ_about_its_mean():
    word = find("joy")
    units, asymmetry, gaze = draw_shown(word, 500, seed=3)
    again = draw_shown(word, 20, seed=3)
    assert all(torch.equal(a[:20], b) for a, b in zip((units, asymmetry, gaze), again, strict=True))
    assert not torch.equal(units, draw_shown(find("bliss"), 500, seed=3)[0])
    assert float(units.min()) >= 0 and float(units.max()) <= 1
    # what would be above 1 is cut off, hence the mean of AU12 (0.95) is a little lower
    assert unit(units, "AU12") == pytest.approx(word.units["AU12"], abs=0.05)
    assert unit(units, "AU6") == pytest.approx(word.units["AU6"], abs=0.02)
    assert unit(units, "AU4") == 0 and float(units[:, ACTION_UNITS.index("AU6")].std()) > 0.05


def test_the_list_needs_no_heavy_imports():
    code = (
        "import runpy, sys; sys.argv = ['x', '--list_expressions']\n"
        f"runpy.run_path({str(ROOT / 'Inference.py')!r}, run_name='__main__')\n"
        "print(sorted({'torch', 'numpy', 'av', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert result.stdout.startswith(listed()) and result.stdout.splitlines()[-1] == "[]", result.stderr


# ----------------------------------------------------------------------------------------------------------- the bank


def test_a_bank_is_written_and_read(tmp_path):
    command = ["-m", "modules.data.expressions", "--out", "bank", "--people", "2", "--size", "48", "--cpu"]
    done = scripts.run(*command, "--labels", "joy,Neutral", cwd=tmp_path)
    assert "wrote 4 pictures of 2 words" in done.stdout, done.stderr
    joy = pictures_of_word(tmp_path / "bank", "Joy")
    assert [path.name for path in joy] == ["0000.png", "0001.png"]
    calm = pictures_of_word(tmp_path / "bank", "neutral")
    pictures = [media.read_image(path).astype(int) for path in (joy[0], calm[0], joy[1])]
    # one person smiles and does not; the next is somebody else, somewhere else
    assert 1 < np.abs(pictures[0] - pictures[1]).mean() < np.abs(pictures[0] - pictures[2]).mean()
    assert media.read_image(tmp_path / "bank/sheet.png").shape[2] == 3
    again = scripts.run(*command, "--labels", "joy", cwd=tmp_path)
    assert again.returncode == 2 and "is there already" in again.stderr
    wrong = scripts.run(*command, "--labels", "jo", cwd=tmp_path)
    assert wrong.returncode == 2 and "--labels: 'jo' is not known; did you mean joy" in wrong.stderr
    with pytest.raises(UserError, match="no pictures in a folder 'fear'; it holds joy, neutral"):
        pictures_of_word(tmp_path / "bank", "fear")


# -------------------------------------------------------------------------------------------------------- photographs


def close_crop() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[0:220, 114:334])


def test_a_clip_goes_there_and_back():
    shares = way_there_and_back(2.0)
    assert len(shares) == 2 * FRAME_RATE and shares[0] == shares[-1] == 0 and max(shares) == 1
    assert shares == pytest.approx(shares[::-1]) and sum(share == 1 for share in shares) > FRAME_RATE / 2
    assert max(way_there_and_back(0.2)) == pytest.approx(1, abs=0.2)  # five frames, the middle one at its height


@pytest.fixture(scope="module")
def rigged() -> RiggedAnimator:
    return RiggedAnimator(
        load_rigged(ROOT / "SID_Checkpoints/sid-rigged-256-cpk.pth"), media.fit(close_crop(), 256, 256)
    )


def gap(animator: RiggedAnimator, picture: np.ndarray) -> float:
    """Between the inner lips, in half frames (13 and 14 of the mesh)."""
    points = animator._look([picture]).points[0]
    return float(points[14, 1] - points[13, 1])


def test_the_rigged_model_shows_words(rigged):
    own = media.fit(close_crop(), 256, 256)
    rest, half, full = rigged.show(rigged.code_of_state(state_of(parse("surprise"))), [0.0, 0.5, 1.0])
    (still,) = RiggedAnimator(rigged.model, own, MotionOptions(strength=0)).animate([own[:, ::-1].copy()])
    assert np.array_equal(rest, still)
    assert gap(rigged, rest) + 0.01 < gap(rigged, half) < gap(rigged, full) - 0.01
    (calm,) = rigged.show(rigged.code_of_state(state_of(parse("sadness"))), [1.0])
    # the astronaut smiles with her mouth open: sadness takes the place of that
    read = [rigged._look([picture]).semantics.expression[0, : 2 * len(ACTION_UNITS)] for picture in (own, calm)]
    smiles = [unit(values.unflatten(0, (2, -1)), "AU12") for values in read]
    assert smiles[1] < smiles[0] - 0.3


def test_strength_scales_words(rigged):
    code = rigged.code_of_state(state_of(parse("surprise")))
    (half,) = rigged.show(code, [0.5])
    weak = RiggedAnimator(rigged.model, media.fit(close_crop(), 256, 256), MotionOptions(strength=0.5))
    (other,) = weak.show(code, [1.0])
    assert np.abs(half.astype(int) - other).max() <= 1  # rounding


def test_a_picture_says_what_a_word_does(rigged, tmp_path):
    """A face that shows surprise is read as surprise, near enough to open the mouth."""
    picture = media.read_image(ROOT / "Inputs/driving static images/surprise.png")
    (shown,) = rigged.show(rigged.code_of_picture(picture), [1.0])
    assert gap(rigged, shown) > gap(rigged, media.fit(close_crop(), 256, 256)) + 0.02


def test_the_mesh_shows_words():
    photo = media.fit(astronaut()[0:260, 94:354], 256, 256)
    puppet = PuppetAnimator(photo, cpu=True)
    rest, half, full = puppet.show(puppet.code_of_state(state_of(parse("surprise"))), [0.0, 0.5, 1.0])
    assert np.abs(rest.astype(int) - photo).mean() < 1
    changes = [np.abs(picture.astype(int) - photo).mean() for picture in (half, full)]
    assert 0.2 < changes[0] < changes[1]
    gaps = []
    for picture in (rest, full):
        marks = puppet._faces([picture])[0].landmarks
        gaps.append(float(marks[66, 1] - marks[62, 1]))
    assert gaps[1] > gaps[0] + 0.03


def test_a_model_of_embeddings_reads_words_off_rendered_people():
    torch.manual_seed(0)
    animator = Animator(randomized(SID(tiny_params())), media.fit(close_crop(), 32, 32))
    assert not animator.code_of_state(state_of([])).any()
    rest, full = animator.show(animator.code_of_state(state_of(parse("surprise"))), [0.0, 1.0])
    (own,) = animator.show(torch.zeros(1, 8), [0.0])
    assert np.array_equal(rest, own) and not np.array_equal(rest, full)
    with pytest.raises(UserError, match="needs a model with encoders, or --motion mesh"):
        Animator(SID(tiny_params(encoders=False)).eval(), media.fit(close_crop(), 32, 32)).code_of_state(state_of([]))


# -------------------------------------------------------------------------------------------------- the command, MEF


def test_the_command_writes_a_picture_and_a_clip(tmp_path):
    media.write_image(tmp_path / "me.png", astronaut())
    media.write_image(tmp_path / "bank/wow/1.png", media.read_image(ROOT / "Inputs/driving static images/surprise.png"))

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        done = scripts.run(ROOT / "Inference.py", "--cpu", "--source_image", "me.png", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    assert "wrote result.png" in run("--expression", "wow", "--expression_bank", "bank", "--strength", "0.7").stdout
    assert media.read_image(tmp_path / "result.png").shape == (512, 512, 3)
    assert "wrote result.mp4 (10 frames)" in run("--expression", "joy:0.6,surprise:0.4", "--seconds", "0.4").stdout
    frames = [frame.image for frame in media.read_video(tmp_path / "result.mp4")]
    assert media.probe_video(tmp_path / "result.mp4").frame_rate == FRAME_RATE and frames[0].shape == (512, 512, 3)
    away = [np.abs(frame.astype(int) - frames[0])[:220, 114:334].mean() for frame in frames]
    assert away[-1] < max(away) / 3  # it comes back, but for the codec


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--expression", "hapiness"], "did you mean happiness"),
        (["--expression", "joy", "--driving_video", "a.mp4"], "--driving_video is of a driver"),
        (["--expression", "joy", "--reference_image", "a.png"], "--reference_image is of a driver"),
        (["--expression", "joy", "--drive", "pose"], "--drive is of a driver"),
        (["--expression", "joy", "--source_video", "a.mp4"], "--source_video is of a driver"),
        (["--expression", "joy", "--relative"], "--relative is of a driver"),
        (["--expression", "joy", "--motion", "keypoints"], "--motion keypoints: a word has no key points"),
        (["--expression", "joy", "--result_video", "a.mp4"], "name it with --result_image"),
        (["--expression", "joy", "--seconds", "1", "--result_image", "a.png"], "name it with --result_video"),
        (["--expression", "joy", "--seconds", "0"], "argument --seconds: 0 is not from 0.2"),
        (["--seconds", "1"], "--seconds is of an expression by name"),
        (["--expression_bank", "bank"], "--expression_bank is of an expression by name"),
        (["--expression", "joy", "--expression_bank", "bank"], "--expression_bank bank: no such folder"),
        (["--prompt", "a hat", "--expression", "joy", "--seconds", "1"], "--seconds animates a photograph"),
        (["--prompt", "a hat", "--expression", "hapiness"], "did you mean happiness"),
        # before a model is loaded, which would be missed first
        (
            ["--prompt", "a", "--checkpoint", "x", "--expression", "joy", "--expression_bank", "bank"],
            "bank: no such folder",
        ),
        (
            ["--checkpoint", "x", "--config", "x", "--expression", "joy", "--expression_bank", "bank"],
            "bank: no such folder",
        ),
    ],
)
def test_contradictions_are_one_line_with_status_2(tmp_path, options, said):
    done = scripts.run(ROOT / "Inference.py", "--cpu", *options, cwd=tmp_path)
    last = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(last) == 1 and said in last[0], done.stderr
    assert not list(tmp_path.iterdir())


def test_an_embedding_of_words_is_that_of_faces_which_show_them(tmp_path):
    folder = tiny_mef.write_sid(tmp_path)
    sid = SIDEncoders.from_sid(SIDParams(config=str(folder / "sid.yaml"), checkpoint=str(folder / "sid.pth.tar")))
    embedder = Embedder(sid)
    joy, calm = named_expression(embedder, "joy"), named_expression(embedder, "neutral")
    assert joy.shape == calm.shape == (1, tiny_mef.WIDTHS[1]) and not torch.equal(joy, calm)
    picture = media.read_image(ROOT / "Inputs/driving static images/surprise.png")
    media.write_image(tmp_path / "bank/wow/1.png", picture)
    own = embedder([picture])[1]
    assert torch.allclose(named_expression(embedder, "wow", str(tmp_path / "bank")), own, atol=1e-6)
    half = named_expression(embedder, "wow:0.5", str(tmp_path / "bank"))
    assert torch.allclose(half, (own + calm) / 2, atol=1e-5)


def test_a_banks_pictures_are_looked_at_before_a_model_is_loaded(tmp_path):
    (tmp_path / "bank" / "joy").mkdir(parents=True)
    (tmp_path / "bank" / "joy" / "1.png").write_text("no picture")
    options = ["--prompt", "a hat", "--checkpoint", "missing", "--expression", "joy", "--expression_bank", "bank"]
    done = scripts.run(ROOT / "Inference.py", "--cpu", *options, cwd=tmp_path)
    assert done.returncode == 2 and "bank/joy/1.png: is not a picture that can be read" in done.stderr


@pytest.mark.parametrize(
    "options, said",
    [
        (["bank", "--motion", "mesh"], "--motion: has no meaning with bank; leave it out"),
        (["bank", "--sheet", "a.png"], "--sheet: has no meaning with bank"),
        (["bank", "--folder", "a"], "--folder: has no meaning with bank"),
        (["sid", "--folder", "a"], "--folder: has no meaning with sid"),
        (["photographs", "--folder", "a", "--people", "3"], "--people: has no meaning with photographs"),
        (["photographs"], "--folder: is needed with photographs"),
    ],
)
def test_the_benchmark_refuses_options_that_do_nothing(options, said):
    done = scripts.run("-m", "benchmarks.emotions", *options)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
