"""Photographs that move, on scikit-image's astronaut and on people of the face world taken as photographs."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut

from modules.errors import UserError
from modules.faces.analysis import load_analyser
from modules.media import write_image
from modules.media.tensors import to_images
from modules.world import ACTION_UNITS, draw_identities, draw_scenes, project_landmarks
from modules.world import render as render_world
from modules.world.parameters import Faces, neutral, set_category
from modules.world.puppets import photographs
from modules.world.puppets.driver import neutral_frame, pose_shown, read_driver
from modules.world.puppets.eyes import photograph_state
from modules.world.puppets.fit import faults, fit, fit_photographs
from modules.world.puppets.puppet import Puppets, make_puppets
from modules.world.puppets.render import landmarks, render
from modules.world.puppets.states import CODES, States, draw_states
from modules.world.puppets.triples import draw_triples, plan_triples
from modules.world.puppets.warp import warped_heads
from modules.world.puppets.writing import write_triples

SIDE, SIZE = 256, 96
# Of the astronaut, in pixels, as modules.faces finds them.
# fmt: off
ASTRONAUT = (
    (180, 103), (180, 112), (180, 121), (182, 136), (186, 150), (190, 156), (201, 167), (209, 173),
    (220, 176), (232, 175), (242, 170), (254, 160), (259, 154), (266, 141), (270, 126), (271, 117),
    (273, 108), (187, 91), (191, 87), (197, 86), (206, 87), (215, 89), (236, 90), (246, 89),
    (255, 89), (261, 91), (265, 95), (225, 101), (224, 111), (224, 121), (223, 127), (214, 130),
    (217, 133), (223, 134), (229, 134), (233, 131), (194, 101), (199, 98), (206, 98), (213, 104),
    (207, 105), (200, 104), (237, 105), (245, 100), (252, 101), (257, 105), (250, 107), (243, 107),
    (201, 139), (210, 139), (216, 139), (223, 140), (230, 140), (236, 140), (246, 142), (234, 153),
    (229, 155), (222, 155), (216, 154), (210, 151), (204, 140), (217, 142), (223, 143), (229, 143),
    (243, 142), (228, 150), (222, 150), (217, 149),
)
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photograph() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the astronaut: picture, landmarks in pixels, and a matte by hand, an ellipse and shoulders."""
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)[None] / 255
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    head = ((x - 223) / 85) ** 2 + ((y - 95) / 100) ** 2 < 1
    shoulders = (y > 170) & ((x - 223).abs() < 60 + (y - 170))
    return picture, torch.tensor(ASTRONAUT, dtype=torch.float32), (head | shoulders).float()[None, None]


def people(count: int, seed: int = 4) -> Faces:
    """Neutral people of the face world, without glasses and hats, turned."""
    scene = set_category(set_category(draw_scenes(count, seed), "glasses", "none"), "hat", "none")
    faces = neutral(count)._replace(identity=draw_identities(count, seed), scene=scene)
    faces.pose[:, 0] = torch.linspace(-12, 12, count)
    return faces


def taken(faces: Faces) -> tuple[torch.Tensor, torch.Tensor]:
    """Photographs of people of the face world, and their mattes: what does not change with the background."""
    first, second = (
        render_world(faces._replace(scene=set_category(faces.scene, "background", name)), SIDE).image
        for name in ("a green wall", "a snowy field")
    )
    matte = ((first - second).abs().amax(1, keepdim=True) < 0.02).float()
    return first, matte


@pytest.fixture(scope="module")
def cast() -> Puppets:
    """The astronaut, smiling, and two people of the face world."""
    picture, points, matte = photographs.cut(*photograph(), SIDE)
    faces = people(2)
    pictures, mattes = taken(faces)
    marks = torch.cat([points[None], project_landmarks(faces)])
    return make_puppets(torch.cat([picture, pictures]), torch.cat([matte, mattes]), fit_photographs(marks, steps=150))


def moved(cast: Puppets, seed: int = 3) -> States:
    return draw_states(cast.size, seed)


def psnr(a: torch.Tensor, b: torch.Tensor, where: torch.Tensor) -> float:
    error = ((a - b) ** 2).mean(-3)[where.squeeze(-3) > 0].mean()
    return float(-10 * error.log10())


def test_heads_of_the_face_world_are_found_again():
    faces = people(6)
    found = fit(project_landmarks(faces), steps=200)
    assert float(found.error.max()) < 0.02
    # yaw is seen well; pitch hardly, and a prior holds it back
    assert float((found.pose[:, 0] - faces.pose[:, 0]).abs().max()) < 1.5
    assert float((found.pose[:, 1] - faces.pose[:, 1]).abs().max()) < 6


def test_jaws_that_are_marked_badly_tear_no_head():
    """The warp moves heads by about what landmarks are off, however these lie."""
    marks = project_landmarks(people(12))
    marks[:, :17] += 0.02 * torch.randn(12, 17, 2, generator=torch.Generator().manual_seed(0))
    found = fit(marks, steps=60)
    assert float((warped_heads(found) - found.heads()).norm(dim=-1).max()) < 0.4


def test_a_smile_is_seen_and_a_straight_face_is_not(cast):
    assert float(cast.units[0].sum()) > 0.5
    assert float(cast.units[1:].sum()) == 0


def test_a_wrecked_fit_is_named():
    good = torch.stack([photographs.cut(*photograph(), SIDE)[1]] * 4)
    good[1, 48:60] += 0.3  # a mouth beside the face
    good[2] = good[2] * 0.1
    good[3, 27:36, 0] += 0.2  # a nose beside the middle of the face
    said = faults(fit(good, steps=100))
    assert said[0] == ""
    assert "does not fit" in said[1] or "is off" in said[1]
    assert "too small" in said[2]
    assert "turned too far" in said[3]


def test_the_state_of_the_photograph_shows_the_photograph(cast):
    drawn = render(cast, photograph_state(cast), SIDE)
    photo = cast.photo.float() / 255
    truth = photo[:, :3] + (1 - photo[:, 3:4]) * cast.plate.float() / 255
    # four samples a pixel, between the photograph's pixels, blur it a little
    for row in range(cast.size):
        assert psnr(drawn.image[row], truth[row], torch.ones(1, SIDE, SIDE)) > 30
        assert psnr(drawn.image[row], truth[row], drawn.mask[row] == 1) > 32


def test_the_flow_into_the_photograph_brings_what_is_seen(cast):
    drawn = render(cast, moved(cast), SIDE)
    photo = cast.photo.float() / 255
    truth = photo[:, :3] + (1 - photo[:, 3:4]) * cast.plate.float() / 255
    warped = F.grid_sample(truth, drawn.flow, align_corners=True)
    assert float(drawn.valid.mean()) > 0.2
    for row in range(cast.size):  # light and folds change with the state, lids cast shadows
        assert psnr(warped[row], drawn.image[row], drawn.valid[row]) > 27


def test_the_flow_between_two_states_brings_one_picture_to_the_other(cast):
    before = moved(cast, 5)
    after = before._replace(pose=before.pose + torch.tensor([10.0, -4, 5, 0.05, 0.02, 0.1]))
    source = render(cast, before, SIDE)
    target = render(cast, after, SIDE, to=before)
    warped = F.grid_sample(source.image, target.flow, align_corners=True)
    assert float(target.valid.mean()) > 0.2
    for row in range(cast.size):
        assert psnr(warped[row], target.image[row], target.valid[row]) > 30
        # the flow means what it says: the wrong one is far worse
        assert psnr(source.image[row], target.image[row], target.valid[row]) < 25


def test_flow_takes_landmarks_to_landmarks(cast):
    before, after = moved(cast, 5), moved(cast, 6)
    target = render(cast, after, SIDE, to=before)
    found, truth = target.landmarks[:, 17:48], landmarks(cast, before)[:, 17:48]  # not at the outline or the mouth
    led = F.grid_sample(target.flow.permute(0, 3, 1, 2), found[:, :, None], align_corners=True)[..., 0].transpose(1, 2)
    valid = F.grid_sample(target.valid, found[:, :, None], align_corners=True)[:, 0, :, 0] == 1
    assert float(valid.float().mean()) > 0.5
    off = (led - truth).norm(dim=-1)[valid]
    assert float(off.median()) < 2 * 2 / SIDE  # two pixels


def test_landmarks_are_those_of_the_photograph(cast):
    picture, points, _ = photographs.cut(*photograph(), SIDE)
    found = landmarks(cast, photograph_state(cast))[0]
    within = (found - points).norm(dim=-1)[17:]
    assert float(within.max()) < 0.03 * float((points[45] - points[36]).norm())


def test_action_units_do_what_they_are_called(cast):
    still = photograph_state(cast)
    still = still._replace(units=torch.zeros_like(still.units))

    def with_unit(name: str) -> torch.Tensor:
        units = still.units.clone()
        units[:, :, ACTION_UNITS.index(name)] = 1
        return landmarks(cast, still._replace(units=units)) - landmarks(cast, still)

    assert (with_unit("AU26")[:, 57, 1] > 0.03).all()  # the lower lip goes down
    assert (with_unit("AU12")[:, [48, 54], 1] < -0.02).all()  # corners of the mouth go up
    assert (with_unit("AU1")[:, [21, 22], 1] < -0.02).all()  # inner brows go up
    assert (with_unit("AU43")[:, [37, 38, 43, 44], 1] > 0.01).all()  # upper lids come down


def test_codes_are_the_states(cast):
    states = moved(cast)
    drawn = render(cast, states, 32)
    assert drawn.codes.shape == (cast.size, len(CODES))
    assert torch.equal(drawn.codes[:, -6:], states.pose)
    assert torch.equal(drawn.codes[:, CODES.index("AU12_right")], states.units[:, 1, ACTION_UNITS.index("AU12")])


def test_the_same_seed_draws_the_same_and_rows_stand_alone():
    assert torch.equal(draw_states(5, 1).codes, draw_states(9, 1).codes[:5])
    assert not torch.equal(draw_states(5, 1).codes, draw_states(5, 2).codes)


def test_a_batch_is_its_pictures_one_by_one(cast):
    states = moved(cast)
    whole = render(cast, states, SIZE)
    for row in range(cast.size):
        alone = render(cast.take([row]), states.take([row]), SIZE)
        for a, b in zip(whole, alone, strict=True):
            assert torch.allclose(a[row : row + 1], b, atol=1e-4)


def test_no_state_gives_no_picture(cast):
    drawn = render(cast, moved(cast).take(slice(0, 0)), SIZE, who=torch.zeros(0, dtype=torch.long))
    assert drawn.image.shape == (0, 3, SIZE, SIZE)


def test_triples_share_states_and_not_people(cast):
    names = ["astronaut", "first", "second"]
    plan = plan_triples(cast, names, 4, seed=7)
    assert (plan.people[:, 0] != plan.people[:, 1]).all()
    drawn, again = (draw_triples(cast, plan_triples(cast, names, 4, seed=7), 48) for _ in range(2))
    assert torch.equal(drawn.target.codes, drawn.driver.codes)
    assert torch.equal(drawn.target.image, again.target.image)
    with pytest.raises(UserError, match="two people"):
        plan_triples(cast, ["one"] * 3, 4, seed=7)


def test_triples_go_on_where_they_were_and_are_not_mixed_with_others(tmp_path, cast):
    prepared = photographs.Prepared(cast, ["astronaut.png", "first#1.png", "second.png"], {})

    def write(count: int, seed: int = 7, size: int = 32) -> None:
        write_triples(tmp_path, prepared, count, size, seed)

    write(1)
    first = (tmp_path / "000000.npz").read_bytes()
    write(2)
    assert (tmp_path / "000000_target.png").exists() and (tmp_path / "000001_target.png").exists()
    assert np.load(tmp_path / "000000.npz")["target_codes"].tolist() == np.load(BytesIO(first))["target_codes"].tolist()
    for other in ({"seed": 8}, {"size": 48}):
        with pytest.raises(UserError, match="has triples of another --seed or --size"):
            write(1, **other)


def test_the_networks_landmarks_count_from_the_middle_of_the_first_pixel():
    """As :func:`photographs.cut` and the files take them; the networks' own count from its corner."""
    picture, *_ = photograph()
    (face,) = load_analyser(torch.device("cpu"))(picture)[0]
    points, _ = photographs.networks()("astronaut.png", picture)
    assert torch.allclose(points, face.landmarks68 - 0.5, atol=1e-3)


@pytest.mark.parametrize("told", ["[1]", '{"a.png": [[1, 2]]}', '{"a.png": [[1, 2], [3]]}', "{", '{"a.png": null}'])
def test_landmarks_that_are_none_are_one_line(tmp_path, told):
    (tmp_path / "marks.json").write_text(told)
    with pytest.raises(UserError, match="marks.json"):
        photographs.from_files(tmp_path / "marks.json", tmp_path)("a.png", torch.zeros(1, 3, 8, 8))


def test_a_driver_is_read_and_shown(cast):
    faces = neutral(5)._replace(identity=draw_identities(1, 9).expand(5, -1))
    smile, jaw, shut = (ACTION_UNITS.index(name) for name in ("AU12", "AU26", "AU43"))
    faces.action_units[1, smile], faces.action_units[2, jaw], faces.action_units[3, shut] = 1, 1, 1
    faces.pose[4, 0] = 15
    motion = read_driver(project_landmarks(faces))
    assert neutral_frame(project_landmarks(faces)) == 0
    mean = motion.units.mean(1)
    assert float(mean[0].sum()) < 0.6  # of 17 units: traces, which a weak prior leaves
    assert mean[1, smile] > 0.4 and mean[2, jaw] > 0.4 and mean[3, shut] > 0.6
    assert abs(float(motion.pose[4, 0]) - 15) < 4
    puppet = cast.take([0])
    pose = pose_shown(motion, motion.row(0), puppet)
    assert torch.allclose(pose[:, :3], motion.pose[:, :3], atol=1e-4)  # the driver's
    since = pose_shown(motion, motion.row(0), puppet, relative=True)
    assert torch.allclose(since[0], puppet.pose[0], atol=1e-4) and abs(float((since - puppet.pose)[4, 0]) - 15) < 4
    states = States(motion.units, puppet.gaze.expand(5, -1), since)
    shown = landmarks(cast.take([0] * 5), states)
    assert float(shown[2, 57, 1] - shown[0, 57, 1]) > 0.03


def test_a_folder_becomes_puppets_that_can_be_kept(tmp_path, cast):
    folder = tmp_path / "photos"
    folder.mkdir()
    picture, points, matte = photograph()
    write_image(folder / "astronaut.png", to_images(picture)[0])
    write_image(folder / "wall.png", np.full((64, 64, 3), 90, np.uint8))
    (folder / "broken.png").write_bytes(b"no picture")

    def find(name, photo):
        return None if name == "wall.png" else (points, matte)

    prepared = photographs.prepare(photographs.pictures_in(folder), find, 192)
    assert prepared.names == ["astronaut.png"]
    assert prepared.left_out["wall.png"] == "no face was found"
    assert "broken.png" in prepared.left_out
    photographs.save(tmp_path / "puppets.safetensors", prepared)
    again = photographs.load(tmp_path / "puppets.safetensors")
    assert torch.equal(again.puppets.photo, prepared.puppets.photo)
    assert again.left_out == prepared.left_out
    with pytest.raises(UserError, match="no picture in it"):
        photographs.pictures_in(tmp_path)
    for content in (b"none", b""):
        (tmp_path / "other.pt").write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as puppets"):
            photographs.load(tmp_path / "other.pt")
