"""The page of app.py as people see it, in a real browser without a window."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs gradio: pip install -r requirements-app.txt")
pytest.importorskip("playwright", reason="a browser is driven by Playwright: pip install -r requirements-dev.txt")

import app_server
import browsers
import httpx
import numpy as np
import scripts
from app_server import DRIVER, PERSON, SMILE, SURPRISE
from playwright.sync_api import Page, expect

from modules import media

PATIENCE = 120_000  # ms, for machines with much else to do
MOVED, MARKED = 4, 2  # levels in a face: it is another one at least, the mark that is not seen changes it at most
pytestmark = pytest.mark.skipif(browsers.FOUND is None, reason=browsers.MISSING)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    with app_server.running(tmp_path_factory.mktemp("app")) as (address, folder, _):
        yield address, folder


@pytest.fixture(scope="module")
def url(server) -> str:
    return server[0]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browsers.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def group(tmp_path_factory) -> Path:
    return app_server.group(tmp_path_factory.mktemp("group"))


@pytest.fixture
def page(chromium, url) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    shown = context.new_page()
    shown.asked = []
    shown.on("request", lambda request: shown.asked.append(request.url))
    shown.goto(url)
    yield shown
    context.close()


def drop(page: Page, *files: Path) -> None:
    """Give files to the fields that can be seen, from the left."""
    uploads = []
    page.on(
        "response", lambda got: uploads.append(got) if got.request.method == "POST" and "/upload?" in got.url else 0
    )
    fields = page.locator("[role=tabpanel]").locator("visible=true").locator("input[type=file]")
    for number, file in enumerate(files):
        fields.nth(number).set_input_files(file)
    deadline = time.monotonic() + PATIENCE / 1000
    while len(uploads) < len(files):
        assert time.monotonic() < deadline, "files are not uploaded"
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)  # the fields take what came


def by_pictures(page: Page, group: Path) -> None:
    """Give a photograph of two, and a picture that drives it; wait for the faces."""
    page.get_by_label("Picture", exact=True).check()
    expect(page.locator("img[src*='happiness.png']").locator("visible=true").first).to_be_visible()
    drop(page, group, SMILE)
    expect(page.locator(".faces button.thumbnail-item")).to_have_count(2, timeout=PATIENCE)


def got(page: Page, folder: Path) -> Path:
    """The picture that the page has made, downloaded."""
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    with page.expect_download() as download:
        page.get_by_text("Download", exact=True).click()
    download.value.save_as(folder / "got.png")
    return folder / "got.png"


def changes(group: Path, result: Path) -> list[float]:
    """How far the faces of two people beside each other differ between pictures, in levels, in the mean."""
    apart = np.abs(media.read_image(group).astype(float) - media.read_image(result))
    return [half[90:220, 70:190].mean() for half in np.split(apart, 2, axis=1)]


def test_two_files_dropped_become_a_video_to_be_had(page, tmp_path):
    drop(page, PERSON, DRIVER)
    page.get_by_role("button", name="Animate", exact=True).click()
    expect(page.get_by_text(re.compile(r"frame \d+ of 100, about .* left")).first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    with page.expect_download() as got:
        page.get_by_text("Download", exact=True).click()
    got.value.save_as(tmp_path / "got.mp4")
    assert len(media.probe_video(tmp_path / "got.mp4").times) == len(media.probe_video(DRIVER).times)
    plays = "video => video.readyState >= 2 && video.videoWidth > 0"
    result = page.locator("video[src*='animated.mp4']")
    deadline = time.monotonic() + PATIENCE / 1000
    while not result.evaluate(plays):
        assert time.monotonic() < deadline, "the result does not play"
    if place := os.environ.get("DEEPEXPR_SCREENSHOT"):
        page.screenshot(path=place)
    strangers = [asked for asked in page.asked if not re.match(r"(http://127\.0\.0\.1[:/]|data:|blob:)", asked)]
    assert not strangers  # fonts, scripts, counters


def test_work_is_cancelled_and_the_next_begins(page):
    drop(page, PERSON, DRIVER)
    go = page.get_by_role("button", name="Animate", exact=True)
    go.click()
    expect(page.get_by_text(re.compile(r"frame [1-9]\d* of 100")).first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Cancel").locator("visible=true").click()
    expect(page.get_by_text("Cancelled.")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("video[src*='animated.mp4']")).to_have_count(0)
    go.click()
    expect(page.get_by_text(re.compile(r"frame [1-9]\d* of 100")).first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Cancel").locator("visible=true").click()
    expect(page.get_by_text("Cancelled.")).to_be_visible(timeout=PATIENCE)


def test_an_example_is_one_click_and_a_word_another(page):
    page.get_by_role("tab", name="Express").click()
    page.get_by_text("amazement (surprise)").click()
    expect(page.locator("img[src*='person-2.png']").locator("visible=true").first).to_be_visible()
    page.get_by_role("button", name="Express", exact=True).click()
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("img[src*='amazement.png']")).to_be_visible()


def test_a_face_is_swapped(page):
    page.get_by_role("tab", name="Swap").click()
    page.locator("img[src*='person-4.png']").locator("visible=true").first.click()
    page.get_by_role("button", name="Swap", exact=True).click()
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    result = page.locator("img[src*='swapped.png']").first
    expect(result).to_be_visible()
    assert result.evaluate("picture => picture.naturalWidth") == media.read_image(PERSON).shape[1]
    if place := os.environ.get("DEEPEXPR_SCREENSHOT"):
        page.screenshot(path=Path(place).with_stem("swap"))


@pytest.mark.parametrize("how", ["the page is closed", "another page is opened"])
def test_an_upload_that_the_browser_breaks_off_is_gone_at_once(page, server, tmp_path, how):
    before, long = app_server.kept(server[1]), tmp_path / "long.mp4"
    long.write_bytes(bytes(40_000_000))
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2_000_000}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
    page.locator("input[type=file]").nth(1).set_input_files(long)
    app_server.wait_for(lambda: app_server.kept(server[1]) > before, "nothing has come", PATIENCE / 1000)
    if how == "the page is closed":
        page.close()
    else:
        page.goto("about:blank")
    app_server.wait_for(lambda: app_server.kept(server[1]) == before, "the upload stays")


def test_the_faces_of_a_group_are_shown_and_one_is_chosen_by_a_click(page, group, tmp_path):
    by_pictures(page, group)
    faces, choice = page.locator(".faces button.thumbnail-item"), page.get_by_role("radio")
    expect(faces).to_have_count(2)
    expect(page.locator(".faces")).to_have_text(re.compile(r"1\s*2"))
    expect(choice.and_(page.get_by_label("2", exact=True))).to_be_checked()  # the larger one
    faces.nth(0).click()
    expect(choice.and_(page.get_by_label("1", exact=True))).to_be_checked()
    page.get_by_label("2", exact=True).check()
    expect(faces.nth(1)).to_have_class(re.compile("selected"))
    faces.nth(0).click()
    page.get_by_role("button", name="Animate", exact=True).click()
    left, right = changes(group, got(page, tmp_path))
    assert left > MOVED and right < MARKED


def test_all_faces_are_moved_as_by_the_command_line(page, group, tmp_path):
    by_pictures(page, group)
    page.get_by_label("All", exact=True).check()
    page.get_by_text("Another video or picture for some faces").click()
    expect(page.locator(".own").locator("visible=true")).to_have_count(2)
    page.locator(".own input[type=file]").nth(1).set_input_files(SURPRISE)
    expect(page.locator(".own").get_by_text(SURPRISE.name)).to_be_visible(timeout=PATIENCE)
    if place := os.environ.get("DEEPEXPR_SCREENSHOT"):
        page.screenshot(path=Path(place).with_stem("group"), full_page=True)
    page.get_by_role("button", name="Animate", exact=True).click()
    result = media.read_image(got(page, tmp_path))
    told = scripts.run(
        *("Inference.py", "--cpu", "--source_image", group, "--face", "all", "--driving_video", SMILE),
        *("--driving_video", SURPRISE, "--result_image", tmp_path / "by command.png"),
    )
    assert told.returncode == 0, told.stderr
    assert np.array_equal(result, media.read_image(tmp_path / "by command.png"))


def test_another_photograph_forgets_faces_and_their_drivers(page, group):
    by_pictures(page, group)
    page.get_by_label("All", exact=True).check()
    page.get_by_text("Another video or picture for some faces").click()
    page.locator(".own input[type=file]").nth(0).set_input_files(SURPRISE)
    expect(page.locator(".own").get_by_text(SURPRISE.name)).to_be_visible(timeout=PATIENCE)
    page.locator("img[src*='person-2.png']").locator("visible=true").first.click()  # an example, of one person
    expect(page.locator(".faces").locator("visible=true")).to_have_count(0)
    expect(page.locator(".own").locator("visible=true")).to_have_count(0)
    expect(page.get_by_role("radio").and_(page.get_by_label("All", exact=True))).to_have_count(0)
    expect(page.locator(".own").get_by_text(SURPRISE.name)).to_have_count(0)


@pytest.mark.parametrize(("tab", "face", "moved"), [("Express", "All", (1, 1)), ("Swap", "1", (1, 0))])
def test_faces_are_chosen_where_there_is_no_driver(page, group, tmp_path, tab, face, moved):
    page.get_by_role("tab", name=tab).click()
    drop(page, *([group, PERSON.with_name("person-4.png")] if tab == "Swap" else [group]))
    expect(page.locator(".faces button.thumbnail-item").locator("visible=true")).to_have_count(2, timeout=PATIENCE)
    expect(page.get_by_label("All", exact=True).locator("visible=true")).to_have_count(int(tab == "Express"))
    page.get_by_label(face, exact=True).locator("visible=true").check()
    page.get_by_role("button", name=tab, exact=True).click()
    expect(page.get_by_text("Done in")).to_be_visible(timeout=PATIENCE)
    shown = page.locator("img[src*='joy.png'], img[src*='swapped.png']").locator("visible=true").first
    (tmp_path / "got.png").write_bytes(httpx.get(shown.get_attribute("src")).content)
    for change, is_moved in zip(changes(group, tmp_path / "got.png"), moved, strict=True):
        assert change > MOVED if is_moved else change < MARKED


def test_an_error_is_one_line_on_the_page(page):
    page.get_by_role("button", name="Animate", exact=True).click()
    told = page.get_by_text("Photograph: nothing is there yet; drop a file, or click an example")
    expect(told).to_be_visible(timeout=PATIENCE)
    assert "Traceback" not in page.content()


def test_nothing_is_cut_off_on_a_telephone(page, group):
    page.set_viewport_size({"width": 390, "height": 800})
    page.reload()
    drop(page, group)
    page.get_by_label("All", exact=True).check()
    page.get_by_text("Another video or picture for some faces").click()
    expect(page.locator(".own").locator("visible=true")).to_have_count(2)
    inside = page.locator(".faces").bounding_box()
    for face in page.locator(".faces button.thumbnail-item").all():
        box = face.bounding_box()
        assert inside["x"] <= box["x"] and box["x"] + box["width"] <= inside["x"] + inside["width"]
        assert inside["y"] <= box["y"] and box["y"] + box["height"] <= inside["y"] + inside["height"]
    for tab in ("Express", "Portrait", "Swap", "Animate"):  # none of them behind a button
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
