"""The data layer on real files: layouts, grouping, determinism, sharing out, the cache, corrupt clips, photographs."""

from __future__ import annotations

import gc
import logging
import pickle
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_files import encode, renamed_codec
from skimage.data import astronaut
from torch.utils.data import DataLoader

from modules import media
from modules.config.data import AugmentationParams, DatasetParams, MovementParams
from modules.config.files import section_from_dict
from modules.config.sid import TrainParams
from modules.data import index as video_index
from modules.data.astronaut import moving_face, write_clips
from modules.data.augmentation import augment, colour_view, made_view, semantic_view, similarity_view
from modules.data.clips import find_clips, strip_length
from modules.data.frames import FrameDataset, choose_frames, test_clips
from modules.data.sampling import EpochSampler, build_loader
from modules.errors import UserError

SHAPE = (32, 32, 3)
EVERY_AUGMENTATION = {
    "flip_param": {"horizontal_flip": True, "time_flip": True},
    "jitter_param": {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1},
    "rotation_param": {"degrees": 10},
    "resize_param": {"ratio": [0.9, 1.1]},
    "crop_param": {"size": [32, 32]},
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """Six training clips of three people and two test clips of a fourth, 32 pixels, 1.6 s at 25 fps."""
    return write_clips(tmp_path_factory.mktemp("clips"), clips=8, frames=40, size=32, people=4)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Three photographs of ``anna``, one of ``ben``, in ``train``; another size than the frames."""
    root = tmp_path_factory.mktemp("photos")
    (root / "train").mkdir()
    for name, i in (("anna#01_a", 0), ("anna#02_b", 9), ("anna#03_c", 18), ("ben", 27)):
        media.write_image(root / "train" / f"{name}.png", moving_face(0, 30, 48)[i])
    return root


def params(root, **options) -> DatasetParams:
    return section_from_dict(DatasetParams, {"root_dir": str(root), "frame_shape": list(SHAPE)} | options)


def loader_of(root, batch_size=2, **options) -> DataLoader:
    return build_loader(params(root, **options), TrainParams(batch_size=batch_size))


def folder_of_names(root: Path, names: list[str]) -> Path:
    """Folders of two frames each under the given names."""
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(2):
            media.write_image(root / name / f"{i}.png", np.full(SHAPE, 60 * i, np.uint8))
    return root


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_every_layout_yields_its_frames_in_order(tmp_path):
    """Video, gif, folder in natural order, and strip hold the same 12 frames; the loss-less ones exactly."""
    frames = moving_face(0, 12, 32)
    root = tmp_path / "train"
    (root / "folder").mkdir(parents=True)
    for i, frame in enumerate(frames):
        media.write_image(root / "folder" / f"frame{i + 1}.png", frame)
    media.write_image(root / "strip.png", np.concatenate(frames, axis=1))
    for name in ("video.mp4", "picture.gif"):
        with media.VideoWriter(root / name, 32, 32, 25) as writer:
            for i, frame in enumerate(frames):
                writer.write(frame, i / 25)
    found, bad = find_clips(tmp_path, "train", SHAPE)
    assert bad == {} and [clip.name for clip in found] == ["folder", "picture", "strip", "video"]
    for clip in found:
        assert len(clip) == 12
        # Four of the gif's hundredths of a second are one frame at 25 fps; folders and strips are taken to be 25 fps.
        assert clip.times == pytest.approx([i / 25 for i in range(12)], abs=1e-3)
        read, streamed = clip.read(range(12)), np.stack(list(clip.frames()))
        assert np.array_equal(read, streamed)
        if clip.name in ("folder", "strip"):
            assert np.array_equal(read, np.stack(frames))
        else:  # a gif has 256 colours, mp4 coarser colour: a few grey levels on average, far less than a wrong frame
            assert np.abs(read.astype(float) - np.stack(frames)).mean() < 8


def test_strips_are_told_from_photographs():
    assert strip_length(320, 32, SHAPE) == 10
    assert strip_length(64, 32, SHAPE) == 2
    assert strip_length(32, 32, SHAPE) is None
    assert strip_length(1280, 256, SHAPE) == 5, "a strip of larger frames"
    assert strip_length(512, 256, SHAPE) is None, "a photograph may be twice as wide as high"
    assert strip_length(1000, 256, SHAPE) is None


def test_without_train_and_test_a_seeded_split_keeps_each_person_on_one_side(tmp_path):
    root = folder_of_names(tmp_path, [f"id{i}#{j}" for i in range(10) for j in range(2)])
    train, test = (find_clips(root, split, SHAPE, seed=3)[0] for split in ("train", "test"))
    assert len(train) == 16 and len(test) == 4
    assert not {clip.identity for clip in train} & {clip.identity for clip in test}
    assert [clip.name for clip in find_clips(root, "test", SHAPE, seed=3)[0]] == [clip.name for clip in test]
    others = {tuple(clip.name for clip in find_clips(root, "test", SHAPE, seed=s)[0]) for s in range(5)}
    assert len(others) > 1, "the seed decides"


def test_people_are_grouped_by_the_exact_name_before_the_hash(tmp_path):
    folder_of_names(tmp_path / "train", ["id1#a", "id1#b", "id10#a", "id1", "id#1#x", "id#2"])
    dataset = FrameDataset(params(tmp_path, id_sampling=True))
    groups = {}
    for clip, person in zip(dataset.clips, dataset.identities, strict=True):
        groups.setdefault(person, set()).add(clip.name)
    assert sorted(map(sorted, groups.values())) == [["id#1#x", "id#2"], ["id1", "id1#a", "id1#b"], ["id10#a"]]
    assert len(dataset) == 3
    seen = {person: set() for person in groups}
    for epoch in range(30):  # a clip of three is missed in 30 draws once in 60,000 cases
        for index in range(3):
            item = dataset[epoch, index]
            seen[item["identity"]].add(dataset.clips[item["clip"]].name)
    assert seen == groups


def test_a_person_is_the_same_in_all_roots_and_a_mere_file_name_is_not(tmp_path, photos):
    """``anna#1`` is the anna of the photographs; 00001 of two collections are two people."""
    folder_of_names(tmp_path / "a" / "train", ["anna#1", "anna#2", "00001"])
    folder_of_names(tmp_path / "b" / "train", ["anna#1", "00001"])
    roots = [{"path": str(root)} for root in (tmp_path / "a", photos, tmp_path / "b")]
    dataset = FrameDataset(params("", root_dir=roots, id_sampling=True, elsewhere_frame=True))
    people = {}
    for clip, person in zip(dataset.clips, dataset.identities, strict=True):
        people.setdefault(person, []).append((clip.path.parent.parent.name[0], clip.name))
    annas = [("a", "anna#1"), ("a", "anna#2"), ("p", "anna"), ("b", "anna#1")]
    assert sorted(people.values()) == sorted([annas, [("a", "00001")], [("b", "00001")], [("p", "ben")]])
    assert set(people) == set(range(4)) and len(dataset) == 2 + 2 + 2  # items stay a root's own
    photographs = [clip.name for clip in dataset.clips].index("anna")
    other = dataset._elsewhere(photographs, np.random.default_rng(0))["elsewhere"]
    assert other.min() == other.max(), "a frame of the other roots' plain clips"


def test_names_with_digits_of_other_kinds_are_sorted_too(tmp_path):
    """A superscript is a digit to Python, and no number."""
    root = folder_of_names(tmp_path / "train", ["x9²", "x10", "x9"]).parent
    assert [clip.name for clip in find_clips(root, "train", SHAPE)[0]] == ["x9", "x9²", "x10"]


def test_test_clips_stream_fitted_frames(clips):
    found = test_clips(params(clips, frame_shape=[16, 16, 3]))
    assert [clip.name for clip in found] == ["person4#01", "person4#02"]
    assert found[0].identity == "person4" and found[0].frame_rate == 25
    frames = list(found[0].frames())
    assert len(frames) == len(found[0].times) == 40
    assert all(frame.shape == (16, 16, 3) and frame.dtype == np.uint8 for frame in frames)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: (p / "train").mkdir(parents=True)])
def test_missing_or_empty_root_is_named(tmp_path, make):
    make(tmp_path / "nothing")
    with pytest.raises(UserError, match="nothing") as caught:
        FrameDataset(params(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


# --- items ------------------------------------------------------------------------------------------------------------


def test_items_have_the_promised_shapes_and_ranges(clips):
    dataset = FrameDataset(params(clips, frames_per_video=4, augmentation_params=EVERY_AUGMENTATION))
    item = dataset[0]
    assert item["frames"].shape == (4, 3, 32, 32) and item["frames"].dtype == torch.float32
    assert item["frames"].min() >= 0 and item["frames"].max() <= 1
    assert item["times"].shape == (4,) and item["times"].dtype == torch.float32
    assert len(set(dataset.identities)) == 3 and len(dataset) == 6
    with pytest.raises(IndexError):
        dataset[6]


def test_two_frames_are_distinct_and_in_order_unless_flipped(clips):
    items = [FrameDataset(params(clips))[epoch, 0]["times"] for epoch in range(50)]
    assert all(first < second for first, second in items)
    flip = {"augmentation_params": {"flip_param": {"time_flip": True}}}
    flipped = FrameDataset(params(clips, **flip))
    backwards = sum(bool(first > second) for first, second in (flipped[e, 0]["times"] for e in range(50)))
    assert 10 <= backwards <= 40, "half of them: outside these bounds once in 100,000 seeds"


@pytest.mark.parametrize("seconds, count", [(12.0, 4), (1.0, 4), (0.96, 5), (3.0, 8)])
@pytest.mark.parametrize("rate", [25, 30000 / 1001])
def test_more_than_two_frames_are_over_a_fifth_of_a_second_apart(seconds, count, rate):
    times = np.arange(round(seconds * rate) + 1) / rate
    rng = np.random.default_rng(0)
    for _ in range(200):
        gaps = np.diff(np.sort(times[choose_frames(times, count, rng)]))
        assert gaps.min() > 0.2
    uneven = np.sort(np.concatenate([times, np.random.default_rng(1).uniform(0, seconds, 50)]))
    assert np.diff(np.sort(uneven[choose_frames(uneven, count, rng)])).min() > 0.2


def test_short_clips_give_what_they_have():
    rng = np.random.default_rng(0)
    for length in range(5, 40):
        assert len(set(choose_frames(np.arange(length) / 30, 5, rng))) == 5, "too short for the gap, but distinct"
    assert len(set(choose_frames(np.zeros(10), 5, rng))) == 5, "all at one time"
    assert set(choose_frames([0.0, 0.04], 5, rng)) == {0, 1}, "repeats, but of all frames"


def test_items_and_order_do_not_depend_on_the_number_of_workers(clips):
    def batches(workers):
        options = {"frames_per_video": 3, "augmentation_params": EVERY_AUGMENTATION, "num_workers": workers}
        loader = loader_of(clips, **options)
        result = []
        for epoch in range(2):
            loader.batch_sampler.set_position(epoch)
            result += list(loader)
        return result

    alone, shared = batches(0), batches(2)
    assert len(alone) == len(shared) == 6
    for a, b in zip(alone, shared, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("frames", "times", "identity", "clip", "index"))
    assert not torch.equal(alone[0]["frames"], alone[3]["frames"]), "the second epoch is another draw"


def test_the_frame_from_elsewhere_is_of_the_person_and_of_another_clip_where_there_is_one(clips, photos):
    """Told by their pixels: without augmentation a frame is equal to one of the clip it is from."""
    options = {"root_dir": [{"path": str(clips)}, {"path": str(photos)}], "elsewhere_frame": True}
    dataset = FrameDataset(section_from_dict(DatasetParams, {"frame_shape": list(SHAPE)} | options), num_repeats=2)
    frames = [clip.read(list(range(len(clip)))) for clip in dataset.clips]
    with_others = 0
    for index in range(len(dataset)):
        item = dataset[index]
        shown = (item["elsewhere"].permute(1, 2, 0) * 255).round().byte().numpy()
        (home,) = {n for n, clip in enumerate(frames) if (clip == shown).all(axis=(1, 2, 3)).any()}
        assert dataset.identities[home] == item["identity"]
        siblings = dataset.identities.count(item["identity"]) > 1
        assert (home != item["clip"]) == siblings
        with_others += siblings
    assert with_others and "elsewhere" not in FrameDataset(params(clips))[0]


def test_photographs_of_a_person_are_pairs_and_single_ones_get_made_views(photos):
    dataset = FrameDataset(params(photos, frames_per_video=4))
    names = {dataset.clips[i].name: i for i in range(2)}
    assert set(names) == {"anna", "ben"}
    for epoch in range(10):
        items = {dataset[epoch, i]["clip"]: dataset[epoch, i] for i in range(2)}
        anna, ben = items[names["anna"]], items[names["ben"]]
        assert abs(anna["times"][0] - anna["times"][1]) >= 10, "two different photographs"
        assert len(set(anna["times"].tolist())) == 3, "all of them, and a view of one"
        assert ben["times"].tolist() == [0] * 4
        photo = torch.from_numpy(dataset.clips[names["ben"]].read([0])[0]).permute(2, 0, 1) / 255
        changes = [(frame - photo).abs().mean().item() for frame in ben["frames"]]
        assert sorted(changes)[0] == 0 and sorted(changes)[1] > 0.01, "one photograph as it is, three views"
        assert max(changes) < 0.35, "of the same picture"


def test_roots_share_an_epoch_by_weight_and_items_within_them_evenly(clips, photos):
    roots = [{"path": str(clips), "weight": 3}, {"path": str(photos), "weight": 1}]
    dataset = FrameDataset(params("", root_dir=roots), num_repeats=10)
    assert len(dataset) == 10 * (6 + 2)
    drawn = [dataset._item_of(epoch, i) for epoch in range(3) for i in range(len(dataset))]
    assert sum(root == 0 for root, _ in drawn) == 3 * 60
    counts = np.unique([item for root, item in drawn if root == 0], return_counts=True)[1]
    assert counts.tolist() == [30] * 6
    identities = {dataset[0, i]["identity"] for i in range(len(dataset))}
    assert identities == set(range(5)) == set(dataset.identities)


# --- sampling ---------------------------------------------------------------------------------------------------------


def indices(sampler) -> list[list[int]]:
    return [[index for _, index in batch] for batch in sampler]


def test_ranks_share_the_same_global_batches_without_repeats():
    alone = indices(EpochSampler(50, 8, seed=5))
    ranks = [indices(EpochSampler(50, 8, 4, rank, seed=5)) for rank in range(4)]
    assert [sum(parts, []) for parts in zip(*ranks, strict=True)] == alone
    flat = sum(alone, [])
    assert len(flat) == len(set(flat)) == 48, "the last two do not fill a batch"


def test_epochs_differ_and_resuming_continues_the_epoch(clips):
    loader = loader_of(clips, augmentation_params=EVERY_AUGMENTATION, num_workers=0)
    sampler = loader.batch_sampler
    sampler.set_position(4)
    whole = list(loader)
    sampler.set_position(4, 1)
    rest = list(loader)
    assert len(loader) == len(rest) == len(whole) - 1
    assert all(torch.equal(a["frames"], b["frames"]) for a, b in zip(whole[1:], rest, strict=True))
    orders = set()
    for epoch in range(5):
        sampler.set_position(epoch)
        orders.add(str(indices(sampler)))
    assert len(orders) > 1


def test_impossible_batches_are_refused():
    with pytest.raises(UserError, match="batch_size 6 .* 4 processes"):
        EpochSampler(50, 6, world_size=4)
    with pytest.raises(UserError, match="num_repeats"):
        EpochSampler(5, 6)


def test_workers_survive_the_garbage_of_a_process_that_decoded_videos(clips):
    """FFmpeg's objects have threads, which a fork lacks: freeing them there would wait for ever."""
    context = loader_of(clips, num_workers=1).multiprocessing_context
    frame = av.VideoFrame(256, 256, "yuv420p")
    frame.reformat(format="rgb24", threads=4)  # leaves its threads with the frame
    cycle = [frame]
    cycle.append(cycle)
    gc.disable()  # or it might be collected here, where that does no harm
    try:
        del frame, cycle
        worker = context.Process(target=gc.collect)
        worker.start()
    finally:
        gc.enable()
    worker.join(60)  # seconds; it takes some, if the server has to be started first
    alive = worker.is_alive()
    worker.kill()
    assert not alive


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up_front", [True, False])
def test_cached_and_decoded_items_are_equal(clips, photos, tmp_path, up_front):
    roots = [{"path": str(clips)}, {"path": str(photos)}]
    options = {"root_dir": roots, "frames_per_video": 3, "frame_shape": [24, 20, 3]}
    plain = FrameDataset(params("", **options))
    cached = FrameDataset(params("", cache_dir=str(tmp_path / "cache"), **options))
    if up_front:
        cached.prepare_cache(progress=False)
    for _ in range(2):  # as it is built, and as it is used
        for key in ((epoch, index) for epoch in range(2) for index in range(len(plain))):
            assert torch.equal(plain[key]["frames"], cached[key]["frames"])
    files = list((tmp_path / "cache").iterdir())
    assert len(files) == 9 and sum(file.suffix == ".npy" for file in files) == 8, "and the index of the videos"
    used = {file: file.stat().st_mtime_ns for file in files}
    FrameDataset(params("", cache_dir=str(tmp_path / "cache"), **options)).prepare_cache(progress=False)
    assert used == {file: file.stat().st_mtime_ns for file in files}, "a second run finds them"


def test_a_changed_clip_is_cached_anew(tmp_path):
    folder_of_names(tmp_path / "data" / "train", ["a"])
    options = params(tmp_path / "data", cache_dir=str(tmp_path / "cache"))
    assert FrameDataset(options)[0]["frames"].max() == pytest.approx(60 / 255)
    media.write_image(tmp_path / "data" / "train" / "a" / "1.png", np.full(SHAPE, 200, np.uint8))
    assert FrameDataset(options)[0]["frames"].max() == pytest.approx(200 / 255)


def test_processes_that_share_the_work_build_the_whole_cache(clips, tmp_path):
    """Three on one machine, each its own third, from different places on; a second machine finds nothing to do."""
    dataset = FrameDataset(params(clips, cache_dir=str(tmp_path / "cache")))
    for rank in range(3):
        dataset.prepare_cache(slice(rank, None, 3), rank / 3, progress=False)
        assert len(list((tmp_path / "cache").glob("*.npy"))) == 2 * (rank + 1)


def test_a_second_start_probes_no_video_again(clips, tmp_path, monkeypatch):
    """Unless it changed, or what was kept is damaged; and all is as if it had been probed."""
    root, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(clips, root)
    first = FrameDataset(params(root, cache_dir=str(cache)))
    probed = []
    probe = video_index.probe_video
    monkeypatch.setattr(video_index, "probe_video", lambda path: probed.append(path.name) or probe(path))
    again = FrameDataset(params(root, cache_dir=str(cache)))
    assert probed == []
    for a, b in zip(first.clips, again.clips, strict=True):
        assert a.info.unpacked() == b.info.unpacked() == media.probe_video(a.path)
        assert np.array_equal(a.read([0, 7]), b.read([0, 7]))
    (root / "train" / "person1#01.mp4").write_bytes((root / "train" / "person2#02.mp4").read_bytes())
    FrameDataset(params(root, cache_dir=str(cache)))
    assert probed == ["person1#01.mp4"]
    (kept,) = cache.glob("*.npz")
    for damage in (b"", b"not an archive", kept.read_bytes()[:300]):
        kept.write_bytes(damage)
        assert len(FrameDataset(params(root, cache_dir=str(cache))).clips) == 6
        assert len(probed) == 1 + 6
        del probed[1:]


def test_a_clip_takes_little_memory(tmp_path):
    """Large sets have 20,000 clips, and every worker its copy: 16 bytes a frame for its file's name and its time."""
    for i in range(250):
        (tmp_path / "train" / "clip").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "clip" / f"{i:07d}.png").touch()
    (clip,) = find_clips(tmp_path, "train", SHAPE)[0]
    assert [file.name for file in clip.files] == [f"{i:07d}.png" for i in range(250)]
    assert len(pickle.dumps(clip)) < 250 * 24  # and what every clip has


def test_several_workers_build_one_cache(clips, tmp_path):
    plain = loader_of(clips, num_workers=0)
    cached = loader_of(clips, cache_dir=str(tmp_path / "cache"), num_workers=2)
    for a, b in zip(plain, cached, strict=True):
        assert torch.equal(a["frames"], b["frames"])
    assert not list((tmp_path / "cache").glob("*.part"))


# --- corrupt material -------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path, clips) -> Path:
    """A sound clip, three entries that cannot be probed, and a folder whose pictures break off half-way."""
    root = tmp_path / "data" / "train"
    (root / "empty").mkdir(parents=True)
    (root / "good.mp4").write_bytes((clips / "train" / "person1#01.mp4").read_bytes())
    (root / "text.mp4").write_text("not a video")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "folder").mkdir()
    media.write_image(root / "folder" / "0.png", astronaut())
    whole = (root / "folder" / "0.png").read_bytes()
    for i in range(3):
        (root / "folder" / f"{i}.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "data"


def test_clips_that_cannot_be_probed_are_skipped_and_named(damaged, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = FrameDataset(params(damaged))
    assert {Path(path).name for path in dataset.bad_clips} == {"empty", "text.mp4", "broken.png"}
    assert [clip.name for clip in dataset.clips] == ["folder", "good"]
    assert "3 of 5" in caplog.text and all(name in caplog.text for name in ("empty", "text.mp4", "broken.png"))


@pytest.mark.parametrize("cached", [False, True])
def test_clips_that_break_while_reading_are_replaced_and_named(damaged, cached):
    options = params(damaged, cache_dir=str(damaged.parent / "cache") if cached else None)
    dataset, again = FrameDataset(options), FrameDataset(options)
    items = [dataset[epoch, index] for epoch in range(3) for index in range(2)]
    assert {dataset.clips[item["clip"]].name for item in items} == {"good"}
    assert any("folder" in item["unreadable"] for item in items)
    for item, other in zip(items, (again[epoch, index] for epoch in range(3) for index in range(2)), strict=True):
        assert torch.equal(item["frames"], other["frames"])
    if cached:
        made = sorted(file.suffix for file in (damaged.parent / "cache").iterdir())
        assert made == [".npy", ".npz"], "nothing half-written"


def test_a_clip_of_an_unknown_codec_is_left_out_and_named(clips, tmp_path):
    shutil.copytree(clips / "train", tmp_path / "train")
    good = sorted(path.name for path in (tmp_path / "train").iterdir())
    for number, code in enumerate((b"zzzz", b"encv")):
        path = encode(tmp_path / "train" / f"locked{number}.mp4", 10)
        renamed_codec(path, code)
    dataset = FrameDataset(params(tmp_path))
    assert sorted(clip.path.name for clip in dataset.clips) == good
    assert {Path(path).name for path in dataset.bad_clips} == {"locked0.mp4", "locked1.mp4"}
    assert all("encrypted or of an unknown codec" in reason for reason in dataset.bad_clips.values())


def test_a_root_of_bad_clips_only_is_refused(damaged):
    (damaged / "train" / "good.mp4").unlink()
    dataset = FrameDataset(params(damaged))
    with pytest.raises(UserError, match="in a row"):
        dataset[0]
    for i in range(3):
        (damaged / "train" / "folder" / f"{i}.png").unlink()
    with pytest.raises(UserError, match="none of the 4 train clips"):
        FrameDataset(params(damaged))


# --- augmentation and views -------------------------------------------------------------------------------------------


def face(size: int = 64, width: int | None = None) -> torch.Tensor:
    frame = moving_face(0, 1, size)[0][:, : width or size]
    return torch.from_numpy(frame.copy()).permute(2, 0, 1)[None] / 255


def test_augmentation_treats_all_frames_alike():
    options = section_from_dict(AugmentationParams, EVERY_AUGMENTATION)
    frames = face(32).repeat(3, 1, 1, 1)
    for seed in range(20):
        result = augment(frames, options, np.random.default_rng(seed))
        assert result.shape == frames.shape and torch.equal(result[0], result[1]) and torch.equal(result[0], result[2])
        assert result.min() >= 0 and result.max() <= 1 + 1e-6
    assert torch.equal(augment(frames, AugmentationParams(), np.random.default_rng(0)), frames)


def test_rotation_turns_by_the_angle_without_black_corners():
    options = section_from_dict(AugmentationParams, {"rotation_param": {"degrees": [90, 90]}})
    frames = face(33)
    turned = augment(frames, options, np.random.default_rng(0))
    # A quarter turn maps pixel centres on pixel centres; float32 grids leave 1e-5 of a pixel.
    quarter = min((turned - torch.rot90(frames, k, (2, 3))).abs().max() for k in (1, 3))
    assert quarter < 1e-4
    white = torch.ones(1, 3, 32, 32)
    options = section_from_dict(AugmentationParams, {"rotation_param": {"degrees": 45}})
    assert augment(white, options, np.random.default_rng(0)).min() > 0.999


@pytest.mark.parametrize("view", [colour_view, semantic_view, made_view])
def test_views_are_seeded_change_the_picture_and_differ_within_a_batch(view):
    frames = face().repeat(4, 1, 1, 1)
    views = view(frames, torch.Generator().manual_seed(1))
    assert views.shape == frames.shape and views.min() >= 0 and views.max() <= 1
    assert torch.equal(views, view(frames, torch.Generator().manual_seed(1)))
    for i in range(4):
        assert (views[i] - frames[0]).abs().mean() > 0.01
        assert all((views[i] - views[j]).abs().mean() > 0.01 for j in range(i))


@pytest.mark.parametrize("width", [64, 48])
def test_similarity_view_is_the_frame_at_theta(width):
    """Brightness that is linear in x and y is sampled exactly: the view of (x, y) shows where its points come from."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, width), indexing="ij")
    frames = torch.stack([x, y, torch.zeros_like(x)])[None].repeat(3, 1, 1, 1)
    views, theta = similarity_view(frames, torch.Generator().manual_seed(0))
    points = torch.stack([x, y, torch.ones_like(x)])
    expected = torch.einsum("bij,jhw->bihw", theta, points).clamp(-1, 1)  # the edge continues
    assert torch.allclose(views[:, :2], expected, atol=1e-4)
    pixels = torch.tensor([width - 1.0, 63.0]) / 2  # from [-1, 1] to pixels
    linear = theta[:, :, :2] * pixels[:, None] / pixels[None]
    gram = linear @ linear.mT
    # Equal scale both ways, and right angles, but for float32.
    assert torch.allclose(gram, gram[:, :1, :1] * torch.eye(2), atol=1e-5)
    assert ((gram[:, 0, 0] > 0.8**2) & (gram[:, 0, 0] < 1.2**2)).all()


def test_views_stay_in_single_precision_under_autocast():
    frames = face().repeat(2, 1, 1, 1)
    plain = similarity_view(frames, torch.Generator().manual_seed(0))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = similarity_view(frames, torch.Generator().manual_seed(0))[0]
        assert semantic_view(frames, torch.Generator().manual_seed(0)).dtype == torch.float32
    assert torch.equal(plain, cast)


def test_movement_moves_each_frame_on_its_own():
    frames = torch.from_numpy(astronaut()[:200, 100:300]).permute(2, 0, 1)[None].repeat(3, 1, 1, 1).float() / 255
    options = AugmentationParams(movement_param=MovementParams(probability=1.0))
    moved = augment(frames, options, np.random.default_rng(0))
    assert moved.shape == frames.shape and not torch.equal(moved[0], moved[1]) and not torch.equal(moved[1], moved[2])
    assert torch.equal(moved, augment(frames, options, np.random.default_rng(0)))
    still = AugmentationParams(movement_param=MovementParams(degrees=0, scale=0, translation=0, probability=1.0))
    # the identity, resampled: rounding alone
    torch.testing.assert_close(augment(frames, still, np.random.default_rng(0)), frames, atol=1e-4, rtol=0)
