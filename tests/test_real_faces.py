"""Figures of real faces: known answers, on scikit-image's astronaut and on renders of the face world."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from skimage import data
from test_inference import run
from tiny import randomized, tiny, write_tiny
from torch import Tensor

from modules.config.files import config_from_dict
from modules.config.schema import write_yaml
from modules.data.astronaut import moving_face, write_clips
from modules.data.clips import find_clips
from modules.errors import UserError
from modules.evaluation.compare import compare
from modules.evaluation.compare_real import cross_pairs
from modules.evaluation.judges.face_reader import FaceReader, FaceReading, load_face_reader
from modules.evaluation.real_faces import AgainstDriver, AgainstTruth, Anchors
from modules.evaluation.real_summary import FaceResult, face_table, summarise
from modules.media.tensors import to_tensor
from modules.sid import weights
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint
from modules.world import Faces, render
from modules.world.draws import draw_identities, draw_poses, draw_scenes, expression
from modules.world.parameters import set_category

ROOT = Path(__file__).parent.parent
FRAMES, SIZE = 4, 96  # of the moving astronaut
SHIFT = 9  # pixels


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return load_face_reader(torch.device("cpu"))


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return to_tensor(moving_face(0, FRAMES, SIZE, frame_rate=3, seed=1))


@pytest.fixture(scope="module")
def truth(reader, clip) -> FaceReading:
    reading = reader(clip)
    assert reading.found.all()
    return reading


@pytest.fixture(scope="module")
def people(reader) -> list[FaceReading]:
    """Two pictures each of three people of the face world: other scenes and expressions."""
    who = draw_identities(3, 1).repeat_interleave(2, dim=0)
    scene = set_category(set_category(draw_scenes(6, 2), "glasses", "none"), "hat", "none")
    units = torch.stack([expression("neutral"), expression("happiness")] * 3)
    faces = Faces(who, units, torch.zeros_like(units), torch.zeros(6, 2), draw_poses(6, 3, 0.5), scene)
    reading = reader(render(faces, 192).image)
    assert reading.found.all()
    return [reading.take(slice(i, i + 2)) for i in (0, 2, 4)]


def against_truth(result: FaceReading, truth: FaceReading) -> dict[str, float]:
    measured = AgainstTruth()
    measured.add(result, truth)
    return measured.figures()


def against_driver(source: FaceReading, result: FaceReading, driver: FaceReading, part: int = 1000) -> dict[str, float]:
    measured = AgainstDriver(source)
    for start in range(0, len(driver.found), part):
        rows = slice(start, start + part)
        measured.add(result.take(rows), driver.take(rows))
    return measured.figures()


def wobbling(face: FaceReading, count: int, noise: float = 0.0) -> FaceReading:
    """A face whose landmarks go about smoothly, its mouth, lids and brows too; noise in pixels."""
    angle = torch.arange(count) / 5
    reading = face.repeated(count)
    points = reading.landmarks + angle.sin()[:, None, None]
    points[:, 17:27, 1] -= 2 + 2 * angle.cos()[:, None]
    points[:, [37, 38, 43, 44], 1] -= 1 + angle.sin()[:, None]
    points[:, 60:68, 1] += torch.tensor([0.0, -1, -1, -1, 0, 1, 1, 1]) * (2 + 2 * (2 * angle).sin())[:, None]
    return reading._replace(landmarks=points + noise * torch.randn(points.shape))


class TestAgainstTruth:
    def test_a_clip_is_like_itself(self, truth):
        figures = against_truth(truth, truth)
        same = {"MKR": 0, "AKD": 0, "mouth AKD": 0, "AED": 0, "CSIM": 1, "pose": 0, "expression": 1, "expression L1": 0}
        assert figures == pytest.approx(same, abs=1e-6)

    def test_a_shift_is_its_pixels_over_the_distance_of_the_eyes(self, reader, truth):
        points = truth.landmarks + torch.tensor([3.0, 4.0, 0.0])
        figures = against_truth(truth._replace(landmarks=points), truth)
        assert figures["AKD"] == pytest.approx(float((5 / truth.eye_distance).mean()), rel=1e-4)
        assert figures["mouth AKD"] == pytest.approx(figures["AKD"], rel=1e-4)

        photo = data.astronaut()
        views = [photo[:220, left : left + 220] for left in (116, 116 - SHIFT)]
        there, here = reader(to_tensor(views)).take(slice(0, 1)), reader(to_tensor(views[1:]))
        # the networks see the same face at another place: within half a pixel
        assert against_truth(here, there)["AKD"] * float(there.eye_distance) == pytest.approx(SHIFT, abs=0.5)

    def test_somebody_else_is_as_like_as_different_people_are(self, truth, people):
        anchors = Anchors()
        for number, reading in enumerate(people):
            anchors.add(str(number), reading)
        same, different = (sum(values) / len(values) for values in anchors.figures().values())
        others = [*people[1:], people[0]]
        swapped = [against_truth(other, own)["CSIM"] for other, own in zip(others, people, strict=True)]
        # over half of the pairs of pictures that the anchor is over; renders are more alike than people are
        assert sum(swapped) / 3 == pytest.approx(different, abs=0.05)
        assert different < same - 0.05 and sum(swapped) / 3 < same - 0.05
        assert against_truth(truth.take(slice(0, 2)), people[0])["CSIM"] < different

    def test_frames_whose_face_is_missing_are_counted_and_nothing_else(self, reader, clip, truth):
        assert against_truth(reader(torch.full_like(clip[:2], 0.5)), truth.take(slice(0, 2))) == {"MKR": 1}
        half = reader(torch.cat([clip[:1], torch.zeros_like(clip[:1])]))
        figures = against_truth(half, truth.take(slice(0, 2)))
        assert figures["MKR"] == 0.5 and figures["AKD"] == pytest.approx(0, abs=1e-3)
        none = reader(clip[:2], torch.zeros(2, dtype=torch.bool))
        assert not none.found.any() and against_truth(truth.take(slice(0, 2)), none) == {}


class TestAgainstDriver:
    def test_the_driver_itself_has_all_of_its_motion(self, truth):
        driver = wobbling(truth.take(slice(0, 1)), 40)
        figures = against_driver(truth.take(slice(0, 1)), driver, driver)
        ones = [f"{part} {figure}" for part in ("mouth", "eyes", "brows") for figure in ("r", "range")]
        expected = dict.fromkeys([*ones, "CSIM", "expression", "jitter"], 1) | {"MKR": 0, "pose": 0, "expression L1": 0}
        assert figures == pytest.approx(expected, abs=1e-5)

    def test_half_the_motion_is_half_the_range(self, truth):
        face = truth.take(slice(0, 1))
        driver = wobbling(face, 40)
        middle = driver.landmarks.mean(dim=0, keepdim=True)
        figures = against_driver(face, driver._replace(landmarks=(driver.landmarks + middle) / 2), driver)
        # the openings are nearly linear in the points, and so is the distance of the eyes
        for part in ("mouth", "eyes", "brows"):
            assert figures[f"{part} range"] == pytest.approx(0.5, abs=0.03) and figures[f"{part} r"] > 0.99
        assert figures["jitter"] == pytest.approx(0.5, abs=0.01)

    def test_a_repeated_frame_has_no_motion(self, truth):
        face = truth.take(slice(0, 1))
        figures = against_driver(face, face.repeated(20), wobbling(face, 20))
        assert all(figures[f"{part} range"] == 0 and f"{part} r" not in figures for part in ("mouth", "eyes", "brows"))
        assert figures["jitter"] == 0 and figures["CSIM"] == pytest.approx(1)

    def test_noise_is_jitter(self, truth):
        face = truth.take(slice(0, 1))
        driver = wobbling(face, 40)
        calm, noisy = (against_driver(face, wobbling(face, 40, noise), driver)["jitter"] for noise in (0.0, 0.3))
        assert calm == pytest.approx(1) and noisy > 3

    def test_parts_are_the_whole_and_lost_faces_break_nothing(self, truth):
        face = truth.take(slice(0, 1))
        driver, result = wobbling(face, 30), wobbling(face, 30, 0.2)
        result.landmarks[11] = torch.nan
        found = result.found.clone()
        found[11] = False
        result = result._replace(found=found)
        whole = against_driver(face, result, driver)
        assert whole["MKR"] == pytest.approx(1 / 30)
        for part in (1, 7):
            assert against_driver(face, result, driver, part) == pytest.approx(whole)


def test_anchors_are_means_over_pairs_of_frames(people):
    anchors = Anchors()
    for number, reading in enumerate(people):
        for row in range(2):
            anchors.add(str(number), reading.take(slice(row, row + 1)))
    found = anchors.figures()
    same = [float(reading.identity[0] @ reading.identity[1]) for reading in people]
    assert found["same person"] == pytest.approx(same, abs=1e-5)
    others = torch.cat([people[1].identity, people[2].identity])
    assert found["different people"][0] == pytest.approx(float((people[0].identity @ others.T).mean()), abs=1e-5)
    alone = Anchors()
    alone.add("a", people[0].take(slice(0, 1)))
    assert alone.figures() == {"same person": [], "different people": []}


def test_people_count_equally_and_clips_without_faces_are_left_out():
    def result(person: str, akd: float | None, shows_faces: bool = True) -> FaceResult:
        figures = {"MKR": 1.0} if akd is None else {"MKR": 0.0, "AKD": akd}
        return FaceResult(person, {"model": figures}, shows_faces)

    results = [result("a", 1), result("a", 3), result("b", 6), result("c", None), result("d", 9, shows_faces=False)]
    summary = summarise(results, Anchors())
    assert summary["means"]["model"] == pytest.approx({"MKR": 1 / 3, "AKD": 4})
    low, high = summary["intervals"]["model"]["AKD"]
    assert 2 <= low < 4 < high <= 6
    table = face_table(summary)
    assert "4 clips of 3 people" in table and "left out: 1 clips" in table and "AKD: of 2 people" in table
    assert "\n" not in face_table(summarise([result("a", 1), *[result("b", 1, shows_faces=False)] * 2], Anchors()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Clips of two people, a configuration, and a checkpoint that has learnt nothing."""
    folder = tmp_path_factory.mktemp("real")
    write_clips(folder / "clips", clips=2, frames=4, size=SIZE, people=2, test_people=1)
    shape = {"dataset_params.root_dir": str(folder / "clips"), "dataset_params.frame_shape": [SIZE, SIZE, 3]}
    write_tiny(folder / "tiny.yaml", **shape)
    torch.manual_seed(0)
    save_checkpoint(weights.state(randomized(SID(config_from_dict(tiny()).model_params))), folder / "model.pth.tar")
    return folder


def work(trained: Path, *options: str, mode: str = "compare-real"):
    paths = {"config": str(trained / "tiny.yaml"), "checkpoint": str(trained / "model.pth.tar")}
    unused = {"source_image": None, "driving_video": None}
    return run(trained, trained, "--mode", mode, "--cpu", *options, script="run.py", **paths, **unused)


def test_a_folder_of_clips_is_measured_and_only_figures_are_kept(trained):
    clips = trained / "clips"
    assert [clip.identity for clip in find_clips(clips, "all", (SIZE, SIZE, 3))[0]] == ["person1", "person2"]
    before = set(trained.rglob("*"))
    result = work(trained, "--real_faces", str(clips))
    assert result.returncode == 0, result.stderr
    made = {path.relative_to(trained).as_posix() for path in set(trained.rglob("*")) - before if path.is_file()}
    assert made == {"compare-real/model/metrics.json"}
    metrics = json.loads((trained / "compare-real" / "model" / "metrics.json").read_text())
    assert len(metrics["pairs"]) == 2 and metrics["faces"]["clips"] == 2 and len(metrics["faces"]["people"]) == 2
    assert metrics["faces"]["means"]["source repeated"]["CSIM"] == pytest.approx(1)
    assert {"same person", "different people"} == set(metrics["faces"]["anchors"])
    assert "CSIM of two true frames: same person: " in result.stdout
    path = str(trained / "compare-real" / "model" / "metrics.json")
    assert "real faces: model: MKR" in compare(path, path)


def test_fewer_pairs_are_the_first_of_all_and_nobody_drives_themselves(trained):
    clips, _ = find_clips(trained / "clips", "all", (SIZE, SIZE, 3))
    every = cross_pairs(clips, None)
    assert len(every) == 2 and all(source.identity != driving.identity for source, driving in every)
    assert cross_pairs(clips, 1) == every[:1]
    many = [replace(clip, identity=str(person)) for person in range(4) for clip in clips]
    first = cross_pairs(many, 8)
    assert all(sum(source.identity == str(person) for source, _ in first) == 2 for person in range(4))
    with pytest.raises(UserError, match="two people"):
        cross_pairs(clips[:1], None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--mode compare-real and --real_faces DIR go together"),
        (["--real_faces", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_a_folder_that_is_not_given_or_not_there_is_one_line(trained, options, said):
    result = work(trained, *options)
    assert result.returncode == 2 and said in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["rigged", "mesh"])
def test_the_rigged_model_and_fitted_heads_are_measured_in_the_same_way(trained, kind):
    config = {
        "dataset_params": {"triples": ["none"], "root_dir": str(trained / "clips"), "frame_shape": [SIZE, SIZE, 3]}
    }
    config |= {"train_params": {"teach": "generator"}, "framing_params": {"size": 1.9}}
    write_yaml(config, trained / "rigged.yaml")
    weights_file = ROOT / "SID_Checkpoints" / "sid-rigged-256-cpk.pth"
    (trained / "rigged").mkdir(exist_ok=True)
    (trained / "rigged" / "rigged.pth").write_bytes(weights_file.read_bytes())
    chosen = {"checkpoint": "rigged/rigged.pth"} if kind == "rigged" else {"checkpoint": None, "motion": "mesh"}
    unused = {"source_image": None, "driving_video": None}
    for mode, options in (
        ("reconstruction", []),
        ("compare-real", ["--real_faces", str(trained / "clips"), "--pairs", "1"]),
    ):
        command = ["--mode", mode, "--cpu", "--no-crop", "--log_dir", ".", *options]
        result = run(trained, trained, *command, script="run.py", config="rigged.yaml", **chosen, **unused)
        assert result.returncode == 0, result.stderr
        assert "AKD" in result.stdout or "CSIM" in result.stdout
    assert (trained / kind / "reconstruction" / "metrics.json").is_file()
