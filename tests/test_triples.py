"""Groups of people in states, and the triples drawn from them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from skimage.data import astronaut

from modules.data.triples.dataset import TripleDataset
from modules.data.triples.groups import PEOPLE, STATES, Group, people_group, photograph_group
from modules.data.triples.shards import SHARD, Plan, open_shard, shards_in, write_shards
from modules.errors import UserError
from modules.faces.mesh import MIRROR
from modules.sid.rigged.points import FaceMeshPoints
from modules.world import draw_identities, draw_scenes
from modules.world.parameters import Faces, neutral, set_category
from modules.world.puppets.fit import fit_photographs
from modules.world.puppets.photographs import Prepared, cut
from modules.world.puppets.puppet import make_puppets
from modules.world.puppets.states import States, draw_states
from modules.world.rendering import render, render_with_flow

SIZE = 64
NAMES = ["a#1", "b#1", "c#1", "d#1", "e#1"]


@pytest.fixture(scope="module")
def photographs() -> Prepared:
    """Five people of the face world, taken as photographs."""
    scene = draw_scenes(len(NAMES), 4)
    for name, value in (("glasses", "none"), ("hat", "none"), ("background", "a green wall")):
        scene = set_category(scene, name, value)
    faces = neutral(len(NAMES))._replace(identity=draw_identities(len(NAMES), 4), scene=scene)
    first, second = (
        render(faces._replace(scene=set_category(scene, "background", name)), 160)
        for name in ("a green wall", "a snowy field")
    )
    matte = ((first.image - second.image).abs().amax(1, keepdim=True) < 0.02).float()
    marks = (first.landmarks + 1) / 2 * 159
    cuts = [cut(first.image[i : i + 1], marks[i], matte[i : i + 1], 160) for i in range(len(NAMES))]
    photos, places, mattes = (
        torch.cat([c[0] for c in cuts]),
        torch.stack([c[1] for c in cuts]),
        torch.cat([c[2] for c in cuts]),
    )
    return Prepared(make_puppets(photos, mattes, fit_photographs(places)), NAMES, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photographs):
    place = tmp_path_factory.mktemp("triples")
    write_shards(place, Plan(SIZE, 3, 0.5), photographs, 1, progress=False)
    return place


def difference_where_valid(group: Group) -> tuple[float, float]:
    """Mean squared difference of pictures and of the ones that they come from, warped and unwarped."""
    images = group.image.float() / 255
    target, source = images.flatten(0, 1), images.roll(-1, 1).flatten(0, 1)
    flow = group.flow.flatten(0, 1).float().permute(0, 3, 1, 2)
    flow = F.interpolate(flow, (SIZE, SIZE), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    valid = F.interpolate(group.valid.flatten(0, 1)[:, None].float(), (SIZE, SIZE))
    warped = F.grid_sample(source, flow, padding_mode="border", align_corners=True)
    return tuple(float(((x - target).square() * valid).sum() / (3 * valid.sum())) for x in (warped, source))


@pytest.mark.parametrize("kind", ["photographs", "people"])
def test_the_flow_leads_to_the_other_state(kind, photographs):
    names = [name.split("#")[0] for name in NAMES]
    group = people_group(SIZE, 5) if kind == "people" else photograph_group(photographs.puppets, names, SIZE, 5)
    warped, still = difference_where_valid(group)
    assert warped < 0.15 * still  # 8 dB nearer at 64 pixels, where much is edges and lids
    assert group.valid.float().mean() > 0.2


def test_everybody_of_a_group_shows_the_same(photographs):
    group = people_group(SIZE, 7)
    assert group.image.shape == (PEOPLE, STATES, 3, SIZE, SIZE)
    again = people_group(SIZE, 7)
    assert all(torch.equal(a, b) for a, b in zip(group, again, strict=True))
    assert not torch.equal(group.image, people_group(SIZE, 8).image)
    eyes = group.landmarks[:, :, 36:48].mean(2)
    # the pose is everybody's: people differ by their shape alone, states by where they are as well
    assert (eyes - eyes.mean(0)).abs().mean() < 0.5 * (eyes - eyes.mean(1, keepdim=True)).abs().mean()


def test_groups_of_fewer_people_in_more_states(photographs, tmp_path):
    write_shards(tmp_path, Plan(SIZE, 3, 0.5, people=2, states=5), photographs, SHARD, progress=False)
    data = TripleDataset([str(tmp_path)], num_repeats=3)
    assert len(data) == 3 * SHARD * 2 * 5
    (shard,) = shards_in(tmp_path)
    assert len(open_shard(shard).get_tensor("codes").flatten(0, 1).unique(dim=0)) == 5 * SHARD
    assert {data[index]["source"].shape for index in range(20)} == {(3, SIZE, SIZE)}


def test_rendering_goes_on_where_it_stopped(folder, photographs, tmp_path):
    (shard,) = shards_in(folder)
    before = shard.read_bytes()
    write_shards(folder, Plan(SIZE, 3, 0.5), photographs, SHARD, progress=False)
    assert shard.read_bytes() == before
    assert "states" not in open_shard(shard).metadata()["plan"]  # as in folders rendered before it could be chosen
    with pytest.raises(UserError, match="made of something else"):
        write_shards(folder, Plan(SIZE, 4, 0.5), photographs, SHARD, progress=False)
    with pytest.raises(UserError, match="there are none"):
        write_shards(tmp_path, Plan(SIZE, 3, 0.5), None, 1, progress=False)
    with pytest.raises(UserError, match="more than 256 pictures"):
        write_shards(tmp_path, Plan(SIZE, 3, 1, people=17, states=16), None, 1, progress=False)
    three = photographs._replace(puppets=photographs.puppets.take([0, 1, 2]), names=NAMES[:3])
    with pytest.raises(UserError, match="3 people to draw groups of 4 from"):
        write_shards(tmp_path, Plan(SIZE, 3, 0.5), three, 1, progress=False)


@pytest.mark.parametrize(("content", "said"), [(b"no tensors", "cannot be read"), (save({}), "holds no triples")])
def test_what_is_no_shard_is_one_line(tmp_path, content, said):
    (tmp_path / "00000.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=said):
        TripleDataset([str(tmp_path)])


def test_an_item_depends_on_seed_epoch_and_index_alone(folder):
    first, second = TripleDataset([str(folder)], seed=1), TripleDataset([str(folder)], seed=1)
    second[(0, 5)]
    assert len(first) == SHARD * PEOPLE * (PEOPLE - 1) * STATES
    one, two = first[(2, 9)], second[(2, 9)]
    assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(two[name])) for name in one)
    assert any(not torch.equal(one[name], first[(3, 9)][name]) for name in ("source", "driver"))
    with pytest.raises(UserError, match="no triples there"):
        TripleDataset([str(folder.parent)])


def test_driver_and_target_show_the_same_and_are_different_people(folder):
    data = TripleDataset([str(folder)])
    for index in range(8):
        item = data[index]
        apart = (item["driver"].float() - item["target"].float()).abs().mean()
        assert apart > 10  # of 255: other skin, hair and background
        lips = [13, 14]
        gaps = [(item[f"{who}_points"][lips[1], 1] - item[f"{who}_points"][lips[0], 1]) for who in ("driver", "target")]
        assert abs(float(gaps[0] - gaps[1])) < 0.12


def test_the_flow_of_an_item_counts_from_the_edges_of_the_frame(folder):
    """Where the source's own points are, as the flow leads to them from the target's."""
    data, errors, still = TripleDataset([str(folder)]), [], []
    for index in range(24):
        item = data[index]
        target, source = item["target_points"][:, :2], item["source_points"][:, :2]
        side = item["flow"].shape[0]
        place = (target * SIZE / (SIZE - 1))[None, :, None]
        flow = F.grid_sample(item["flow"].permute(2, 0, 1)[None], place, align_corners=True)[0, :, :, 0].T
        known = F.grid_sample(item["valid"][None, None].float(), place, align_corners=True)[0, 0, :, 0] > 0.99
        assert side == SIZE // 2
        errors.append((flow - source).norm(dim=1)[known])
        still.append((target - source).norm(dim=1)[known])
    assert torch.cat(errors).median() < 0.25 * torch.cat(still).median()


def test_points_of_a_mirror_image_are_those_of_the_other_side():
    """Of a face seen from ahead, as far as the network sees both sides alike."""
    assert [MIRROR[MIRROR[i]] for i in range(468)] == list(range(468))
    image = torch.from_numpy(astronaut()[0:220, 114:334].copy()).permute(2, 0, 1)[None] / 255
    network = FaceMeshPoints()
    points, other = network(image), network(image.flip(-1))
    expected = points[:, list(MIRROR)] * torch.tensor([-1.0, 1, 1])
    assert (other - expected)[..., :2].norm(dim=-1).mean() < 0.02


def test_what_codes_say_is_said_by_states():
    states = draw_states(5, 3)
    assert all(torch.equal(a, b) for a, b in zip(states, States.of_codes(states.codes), strict=True))
    assert torch.equal(states.mirrored().mirrored().codes, states.codes)


def faces_in(poses: list[list[float]]) -> Faces:
    faces = neutral(len(poses))
    return faces._replace(pose=torch.tensor(poses))


def test_people_that_do_not_move_have_the_flow_of_nothing():
    faces = faces_in([[5.0, 0, 0, 0, 0, 1.2]])
    _, made = render_with_flow(faces, faces, SIZE)
    line = torch.linspace(-1, 1, SIZE)
    still = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    where = made.valid[0, 0] == 1
    # a sample is found by triangles of a few samples: their corners are exact, between them it is linear
    assert (made.flow[0] - still)[where].abs().max() < 2 / SIZE
