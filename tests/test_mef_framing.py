"""What MEF shows to its SID of pictures and videos: cut out as that SID wants it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from tiny_mef import write_workshop

from modules import media
from modules.config.files import load_config
from modules.config.mef import SIDParams
from modules.config.sid import FramingParams
from modules.errors import UserError
from modules.faces.close_crop import cut_crop
from modules.faces.framer import Framer
from modules.mef.checks import CONFIG, read_description
from modules.mef.embeddings import Embedder, SIDEncoders
from modules.mef.folder import read_sid
from modules.mef.inference import framing_of

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "MEF_Checkpoints" / "adapters"
PARAMS = FramingParams(size=2.35, above=0.11)


@pytest.fixture
def sid(tmp_path: Path) -> SIDEncoders:
    """A small one with ``framing_params``."""
    folder = write_workshop(tmp_path)
    config = (folder / "sid.yaml").read_text() + "\nframing_params: {size: 2.35, above: 0.11}\n"
    (folder / "sid.yaml").write_text(config)
    return SIDEncoders.from_sid(SIDParams(config=str(folder / "sid.yaml"), checkpoint=str(folder / "sid.pth.tar")))


def test_pictures_are_cut_out_as_their_sid_wants_them(sid):
    """An uncut photograph close by its landmarks, leaning as it does; one that is close already stays as it is."""
    picture = np.asarray(Image.fromarray(astronaut()).rotate(20))
    asked, by_itself, never = (Embedder(sid, crop=crop, cpu=True) for crop in (True, None, False))
    place = Framer(2.35, 0.11, cpu=True).picture(picture, "", upright=False)
    close = cut_crop(picture, place, round(place.side))
    for each in (asked, by_itself):
        assert (each.cut_out(picture, "me") == close).all()
    assert never.cut_out(picture, "me") is picture and by_itself.cut_out(close, "me") is close
    assert asked.cut_out(close, "me") is not close
    for z, wanted in zip(by_itself([picture]), never([close]), strict=True):
        torch.testing.assert_close(z, wanted)
    with pytest.raises(UserError, match="no face found in wall"):
        by_itself.cut_out(np.full((64, 64, 3), 90, np.uint8), "wall")


def test_a_sid_without_a_framing_is_shown_what_it_always_was(sid):
    sid.framing = None
    picture = astronaut()
    assert Embedder(sid, crop=None).cut_out(picture, "me") is picture
    square = Embedder(sid, crop=True, cpu=True).cut_out(picture, "me")  # FOMM's
    assert square.shape[0] == square.shape[1] and square.shape != picture.shape


def test_a_folder_says_how_its_sid_wants_faces_cut(sid, tmp_path):
    sid.save(tmp_path / "sid_encoders.safetensors")
    assert sid.framing == PARAMS
    for description, framing in ((sid.described(), PARAMS), (sid.described() | {"framing_params": None}, None)):
        again = SIDEncoders.from_file(tmp_path / "sid_encoders.safetensors", description)
        assert again.framing == framing and again.same_as(sid)
    old = {name: value for name, value in sid.described().items() if name != "framing_params"}
    assert SIDEncoders.from_file(tmp_path / "sid_encoders.safetensors", old).framing is None
    with pytest.raises(UserError, match="size"):
        SIDEncoders.from_file(tmp_path / "sid_encoders.safetensors", old | {"framing_params": {"size": "wide"}})


def test_the_bundled_adapters_see_the_bundled_pictures_as_they_are():
    bundled = read_sid(BUNDLED, read_description(BUNDLED / CONFIG))
    assert bundled.framing == load_config(ROOT / "config" / "synthetic-128-adv.yaml").framing_params
    look = Embedder(bundled, crop=None, cpu=True)
    for path in [*(ROOT / "Inputs" / "Identities").glob("*.png"), ROOT / "Inputs/driving static images/happiness.png"]:
        picture = media.read_image(path)
        assert look.cut_out(picture, path.name) is picture
    video = str(ROOT / "Inputs/driving videos/driver-1.mp4")
    assert framing_of(look, video, cpu=True).crop is False
    assert framing_of(Embedder(bundled, crop=True, cpu=True), video, cpu=True).is_close
