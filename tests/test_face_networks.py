"""The networks that look at faces, on scikit-image's astronaut and on renders of the face world."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from modules.errors import UserError
from modules.faces import frozen
from modules.faces.alignment import ARCFACE_POINTS, Squares, arcface_chips, cut_squares, similarity, transform
from modules.faces.analysis import Face, FaceAnalyser
from modules.faces.emotions import EXPRESSIONS, Expressions
from modules.faces.landmarks68 import five_points, landmarks68
from modules.faces.matte import PersonMatte
from modules.faces.mesh import FaceMesh
from modules.faces.pose import HeadPose, held_back
from modules.faces.recognition import FaceRes, MobileFace
from modules.faces.retinaface import RetinaFace
from modules.media.tensors import to_tensor
from modules.world import Faces, render
from modules.world.camera import pixels
from modules.world.draws import draw_identities, draw_poses, draw_scenes, expression
from modules.world.parameters import set_category

SIZE = 192  # pixels of the renders
# Eyes, tip of the nose, corners of the mouth of the astronaut, by hand to a pixel or two; the eyes are 43 pixels apart
BY_HAND = torch.tensor([[205.0, 101.0], [248.0, 106.0], [223.5, 130.0], [202.0, 139.5], [245.0, 143.0]])


def turned(image: Tensor, degrees: float, scale: float = 1.0, side: int = 512) -> tuple[Tensor, Tensor]:
    """A picture about its middle, turned clockwise and scaled, and the map ``[1, 2, 3]`` of its pixels there."""
    middle, angle = torch.tensor([[image.shape[3], image.shape[2]]]) / 2, torch.tensor([-math.radians(degrees)])
    back = Squares(middle, torch.tensor([side / scale]), angle).matrix(side)
    whole = torch.cat([back, torch.tensor([[[0.0, 0.0, 1.0]]])], dim=1)
    return cut_squares(image, back, side), torch.linalg.inv(whole)[:, :2]


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return to_tensor([data.astronaut()])


@pytest.fixture(scope="module")
def analyser() -> FaceAnalyser:
    return FaceAnalyser()


@pytest.fixture(scope="module")
def face(analyser, astronaut) -> Face:
    (found,) = analyser(astronaut)[0]
    return found


@pytest.fixture(scope="module")
def people() -> Faces:
    """Four people, twice each: other poses, scenes and expressions, no hats or glasses."""
    who = draw_identities(4, 1).repeat_interleave(2, dim=0)
    scene = set_category(set_category(draw_scenes(8, 2), "glasses", "none"), "hat", "none")
    units = torch.stack([expression("neutral"), expression("happiness")] * 4)
    nothing = torch.zeros_like(units)
    return Faces(who, units, nothing, torch.zeros(8, 2), draw_poses(8, 3, 0.5), scene)


@pytest.fixture(scope="module")
def drawn(people):
    return render(people, SIZE)


@pytest.fixture(scope="module")
def seen(analyser, drawn) -> list[Face]:
    found = analyser(drawn.image)
    assert all(len(faces) == 1 for faces in found)
    return [faces[0] for faces in found]


@pytest.fixture(scope="module")
def places(seen) -> tuple[Tensor, Tensor]:
    """Five points and landmarks of the renders."""
    landmarks = torch.stack([face.landmarks for face in seen])
    return five_points(landmarks)[..., :2], landmarks


class TestDetector:
    def test_points_are_where_a_hand_puts_them(self, face):
        assert face.score > 0.99
        error = (face.points - BY_HAND).norm(dim=1)
        assert error.mean() < 3 and error.max() < 6  # the eyes are 43 apart; measured: 1.9 and 5.0

    @pytest.mark.parametrize("degrees", [-90, -40, 20, 90])
    def test_tilted_heads_are_found(self, face, astronaut, degrees):
        image, there = turned(astronaut, degrees)
        found = RetinaFace().detect(image)[0]
        assert len(found.scores) == 1 and found.scores[0] > 0.7
        error = (found.points - transform(face.points[None], there)).norm(dim=2)
        assert error.mean() < 4.5  # pixels, a tenth of the distance of the eyes

    def test_a_batch_says_what_each_picture_says(self, drawn, astronaut):
        network = RetinaFace()
        together = network.detect(drawn.image[:3])
        for image, found in zip(drawn.image[:3], together, strict=True):
            alone = network.detect(image[None])[0]
            for a, b in zip(found, alone, strict=True):
                torch.testing.assert_close(a, b, atol=0.01, rtol=0)

    @pytest.mark.parametrize("shape", [(1, 1), (7, 300), (40, 31)])
    def test_tiny_pictures_hold_no_face(self, shape):
        assert len(RetinaFace().detect(torch.full((1, 3, *shape), 0.5))[0].scores) == 0

    def test_one_face_is_one_box_and_two_are_two(self, astronaut):
        head = astronaut[..., :260, 96:356]
        found = RetinaFace().detect(torch.cat([head, head], dim=3))[0]
        assert len(found.scores) == 2


class TestLandmarks:
    def test_68_are_near_the_worlds(self, seen, drawn):
        truth = pixels(drawn.landmarks, SIZE)
        apart = (truth[:, 36:42].mean(1) - truth[:, 42:48].mean(1)).norm(dim=1)
        found = torch.stack([face.landmarks68 for face in seen])
        error = (found - truth).norm(dim=2) / apart[:, None]
        # Without the jaw, which the world fixes further back.  Measured: 0.07 of the distance of the eyes, half of it
        # a constant difference of definition.
        assert error[:, 17:].mean() < 0.1 and error[:, 17:].mean(1).max() < 0.15

    def test_five_are_where_a_hand_puts_them(self, face):
        error = (five_points(face.landmarks)[:, :2] - BY_HAND).norm(dim=1)
        assert error.max() < 4  # measured: 3.1

    @pytest.mark.parametrize(("degrees", "scale"), [(30, 1.0), (60, 1.0), (-60, 1.0), (0, 1.5), (10, 0.6)])
    def test_they_move_with_the_picture(self, analyser, astronaut, face, degrees, scale):
        image, there = turned(astronaut, degrees, scale, side=600)
        (found,) = analyser(image)[0]
        expected = transform(face.landmarks[None, :, :2], there)[0]
        error = (found.landmarks[:, :2] - expected).norm(dim=1) / scale
        assert error.mean() < 1.3  # pixels of the astronaut: 3 % of the distance of the eyes

    def test_a_batch_says_what_each_picture_says(self, analyser, drawn, seen):
        again = analyser(drawn.image[2:3])[0][0]
        torch.testing.assert_close(again.landmarks, seen[2].landmarks, atol=0.05, rtol=0)

    def test_the_frame_before_is_enough(self, astronaut, face):
        mesh = FaceMesh()
        with torch.no_grad():
            moved = mesh.refine(torch.roll(astronaut, (6, -4), (2, 3)), face.landmarks[None])
        assert moved.presence > 0.9
        shift = (moved.points - face.landmarks)[0, :, :2].mean(0)
        assert shift.tolist() == pytest.approx([-4, 6], abs=1)

    def test_gradients_reach_the_picture(self, astronaut, face):
        image = astronaut.clone().requires_grad_()
        FaceMesh().refine(image, face.landmarks[None]).points.square().mean().backward()
        inside = image.grad[0, :, 60:180, 170:280].abs().sum()
        assert inside > 0 and image.grad[0, :, 400:].abs().sum() == 0


class TestPose:
    def test_it_is_the_worlds(self, seen, people):
        error = torch.stack([face.pose for face in seen]) - people.pose[:, :3]
        # Of 24 faces in all poses: yaw and roll to 2 degrees in the mean, pitch 8 lower, which is the resting pose of
        # the canonical face.
        assert error[:, [0, 2]].abs().mean() < 4 and error[:, [0, 2]].abs().max() < 10
        assert (error[:, 1] - error[:, 1].mean()).abs().mean() < 5 and error[:, 1].mean().abs() < 12

    def test_a_turned_picture_is_a_roll(self, analyser, astronaut, face):
        (found,) = analyser(turned(astronaut, 30)[0])[0]
        torch.testing.assert_close(found.pose - face.pose, torch.tensor([0.0, 0.0, 30.0]), atol=4, rtol=0)

    def test_of_the_canonical_face_there_is_none(self):
        pose = HeadPose()
        landmarks = pose.weight("points") * torch.tensor([1.0, -1.0, -1.0])
        torch.testing.assert_close(pose(landmarks[None]), torch.zeros(1, 3), atol=1e-3, rtol=0)


def test_the_matte_covers_the_person_and_not_the_rest(astronaut, drawn):
    matte = PersonMatte()
    with torch.no_grad():
        photograph, renders = matte(astronaut)[0, 0], matte(drawn.image)
    assert photograph.shape == (512, 512) and photograph.min() >= 0 and photograph.max() <= 1
    assert photograph[50:140, 185:265].min() > 0.9  # head
    assert photograph[:130, 320:].mean() < 0.02 and photograph[:200, :100].mean() < 0.02  # wall, rocket, flag
    covered = (renders * drawn.mask).sum((1, 2, 3)) / drawn.mask.sum((1, 2, 3))
    assert covered.mean() > 0.9


class TestRecognition:
    @pytest.mark.parametrize(("network", "place", "width"), [(MobileFace, 0, 256), (FaceRes, 1, 1024)])
    def test_the_same_person_is_nearer_than_another(self, network, place, width, drawn, places):
        with torch.no_grad():
            z = network()(drawn.image, places[place])
        assert z.shape == (8, width)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(8))
        likeness = z[::2] @ z[1::2].T
        same, different = likeness.diag().mean(), (likeness.sum() - likeness.trace()) / 12
        # Photographs are further apart, 0.8 and 0.1 by MobileFace, 0.9 and 0.4 by FaceRes: renders are of one kind
        assert same > different + 0.05

    @pytest.mark.parametrize("network", [MobileFace, FaceRes])
    def test_a_person_is_herself_turned_and_in_dim_light(self, network, astronaut, face, drawn, places, analyser):
        of_points, network = network is MobileFace, network()
        image, _ = turned(astronaut * 0.5, 40)
        again = analyser(image)[0][0]
        here, there = (five_points(f.landmarks)[:, :2] if of_points else f.landmarks for f in (face, again))
        with torch.no_grad():
            z, dim = network(astronaut, here[None]), network(image, there[None])
            others = network(drawn.image, places[0] if of_points else places[1])
        assert (z * dim).sum() > 0.75 > 0.6 > (z @ others.T).max()  # measured: 0.84, by MobileFace

    def test_gradients_reach_the_picture(self, astronaut, face):
        image = astronaut.clone().requires_grad_()
        network = MobileFace()
        with torch.no_grad():
            goal = network(image.flip(3), (torch.tensor([512.0, 0.0]) - face.points * torch.tensor([1.0, -1.0]))[None])
        (1 - network(image, face.points[None]) @ goal.T).sum().backward()
        assert image.grad[0, :, 60:180, 170:280].abs().sum() > 0 and image.grad[0, :, 400:].abs().sum() == 0

    def test_faces_are_aligned_as_arcface_expects(self, astronaut, face):
        """The picture of the points, drawn into the chip, is the template."""
        dots = torch.zeros(5, 1, 512, 512)
        for dot, (x, y) in zip(dots, face.points.round().long(), strict=True):
            dot[0, y, x] = 1
        chips = arcface_chips(dots, face.points.expand(5, 5, 2))
        weight = chips[:, 0] / chips.sum((1, 2, 3))[:, None, None]
        centres = torch.arange(112) + 0.5
        at = torch.stack([(weight.sum(1) * centres).sum(1), (weight.sum(2) * centres).sum(1)], dim=1)
        # A face is no template: five points fit it to a few pixels
        assert (at - torch.tensor(ARCFACE_POINTS)).norm(dim=1).max() < 6

    def test_a_similarity_is_found_again(self):
        points = torch.tensor(ARCFACE_POINTS)
        matrix = Squares(torch.tensor([[50.0, 70.0]]), torch.tensor([200.0]), torch.tensor([0.4])).matrix(112)
        torch.testing.assert_close(similarity(transform(points[None], matrix), points), matrix, atol=1e-4, rtol=1e-4)


def test_smiles_are_told_from_neutral_faces(astronaut, face, drawn, seen):
    network = Expressions()
    with torch.no_grad():
        smile = network(astronaut, face.landmarks[None]).softmax(1)[0]
        renders = network(drawn.image, torch.stack([face.landmarks for face in seen])).softmax(1)
    assert EXPRESSIONS[smile.argmax()] == "happy"
    happy = renders[:, EXPRESSIONS.index("happy")]
    assert (happy[1::2] > happy[::2]).float().mean() >= 0.75  # a smile against the same person at rest


class TestSquares:
    def test_shrinking_averages(self):
        """A chequerboard is grey from afar: bilinear sampling alone would keep some pixels of it."""
        board = (torch.arange(256)[:, None] + torch.arange(256)) % 2
        square = Squares(torch.tensor([[128.0, 128.0]]), torch.tensor([256.0]), torch.zeros(1))
        cut = cut_squares(board.float()[None, None], square.matrix(32), 32)
        assert (cut - 0.5).abs().max() < 0.01

    def test_of_mixed_sizes_and_pictures(self):
        images = torch.rand(2, 3, 100, 90)
        squares = Squares(
            torch.tensor([[45.0, 50.0], [30.0, 40.0], [60.0, 60.0]]), torch.tensor([80.0, 10.0, 33.0]), torch.zeros(3)
        )
        owner = torch.tensor([1, 0, 1])
        together = cut_squares(images, squares.matrix(16), 16, owner)
        for number, each in enumerate(owner.tolist()):
            alone = Squares(*(value[number : number + 1] for value in squares))
            torch.testing.assert_close(cut_squares(images[each : each + 1], alone.matrix(16), 16)[0], together[number])

    def test_the_identity_is_the_picture(self):
        image = torch.rand(1, 3, 20, 20)
        square = Squares(torch.tensor([[10.0, 10.0]]), torch.tensor([20.0]), torch.zeros(1))
        torch.testing.assert_close(cut_squares(image, square.matrix(20), 20), image, atol=1e-5, rtol=0)


def test_weights_are_of_no_checkpoint_and_take_no_half_precision(astronaut, face):
    network = MobileFace()
    assert not network.state_dict() and not list(network.parameters())
    plain = network(astronaut, face.points[None])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(astronaut, face.points[None]), plain)


def test_damaged_weights_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "x.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    monkeypatch.setattr(frozen, "bundled", lambda name: tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"x\.safetensors: damaged .*whole"):
        FaceMesh()


def test_a_picture_without_faces_and_a_picture_with_two(analyser, astronaut):
    assert analyser.analyse(np.full((50, 60, 3), 128, np.uint8)) == []
    group = data.astronaut().copy()
    group[300:430, 10:140] = data.astronaut()[40:300:2, 96:356:2]
    large, small = analyser.analyse(group)
    assert large.box.width > 1.5 * small.box.width
    assert landmarks68(small.landmarks).shape == (68, 3)


@pytest.mark.parametrize(
    ("yaw", "turn", "shown"),
    [
        (0, 60, 60),
        (-7, 60, 60),
        (-10, 60, 25),
        (-8, 60, 25 * 1.25**3),
        (0, -60, -60),
        (-20, 60, 12.5),
        (-20, -60, -60),
        (-20, 5, 5),
        (40, -20, 0),
        (40, 20, 20),
        (-59, 21, 0),
    ],
)
def test_a_profile_is_not_turned_to_the_front(yaw, turn, shown):
    held = held_back(torch.tensor([[float(turn)]]), torch.tensor([float(yaw)]))
    assert float(held) == pytest.approx(shown, abs=1e-4)
