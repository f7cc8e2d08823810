"""The page: one file, without anything from elsewhere."""

from __future__ import annotations

import json

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>DeepExpr, live</title>
<link rel="icon" href="data:,">
<style>
  body { font-family: system-ui, sans-serif; margin: 1rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
  main { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-end }
  canvas { width: 32rem; max-width: 100%; background: #eee; border-radius: .5rem }
  video { width: 12rem; max-width: 100%; border-radius: .5rem }
  .mirrored { transform: scaleX(-1) }
  button { font: inherit; padding: .4rem .8rem }
  #state { min-height: 1.5em }
</style>
<main><canvas id="result" width="512" height="512"></canvas><video id="camera" muted playsinline hidden></video></main>
<p id="state" role="status">Starting.</p>
<p>
  <button id="neutral">This face is neutral (n)</button>
  <label><input id="mirror" type="checkbox"> Mirror</label>
</p>
<p><em>Look straight ahead with a calm face, and press the button: all motion counts from there. Show only people who
have agreed to it, and say that it is synthetic.</em></p>
<script>
"use strict";
const PAGE = {page}, CAMERA = {camera};  // CAMERA: its number; null: the program plays a video
const WIDE = 640, QUALITY = 0.85;  // of pictures that are sent
const at = (name) => document.getElementById(name);
const [result, camera, neutral, mirror] = ["result", "camera", "neutral", "mirror"].map(at);
const say = (text) => { at("state").textContent = text; };
const rest = (ms) => new Promise((done) => setTimeout(done, ms));
const post = (path, body, more) =>
  fetch(path, { method: "POST", body, headers: { "X-Page": PAGE, ...more } });

async function opened() {
  if (!navigator.mediaDevices) throw new Error("This browser gives no camera to this page.");
  const size = { width: { ideal: WIDE }, height: { ideal: 480 } };
  let stream = await navigator.mediaDevices.getUserMedia({ video: size });
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  if (CAMERA >= found.length) throw new Error(`There is no camera ${CAMERA}; the browser finds ${found.length}.`);
  const deviceId = found[CAMERA].deviceId;
  if (stream.getVideoTracks()[0].getSettings().deviceId !== deviceId) {
    stream.getTracks().forEach((track) => track.stop());
    stream = await navigator.mediaDevices.getUserMedia({ video: { ...size, deviceId: { exact: deviceId } } });
  }
  camera.srcObject = stream;
  camera.hidden = false;
  await camera.play();
}

const small = document.createElement("canvas");
let grabbed = -1;
async function grab() {
  while (camera.currentTime === grabbed || !camera.videoWidth) await rest(3);  // each picture once
  if (!camera.srcObject.active) throw new Error("The camera is gone.");
  grabbed = camera.currentTime;
  const scale = Math.min(1, WIDE / Math.max(camera.videoWidth, camera.videoHeight));
  small.width = Math.round(scale * camera.videoWidth);
  small.height = Math.round(scale * camera.videoHeight);
  small.getContext("2d").drawImage(camera, 0, 0, small.width, small.height);
  return new Promise((done) => small.toBlob(done, "image/jpeg", QUALITY));
}

async function run() {
  if (CAMERA !== null) await opened();
  let took = 0, pace = 0, before = performance.now();
  for (;;) {
    const sent = CAMERA === null ? null : await grab();
    const begun = performance.now();
    const answer = await post("/frame", sent, { "X-Round-Trip": took / 1000 });
    if (answer.status === 204) return say("The end.");
    if (!answer.ok) throw new Error(await answer.text());
    const picture = await createImageBitmap(await answer.blob());
    if (result.width !== picture.width || result.height !== picture.height) {
      [result.width, result.height] = [picture.width, picture.height];
    }
    result.getContext("2d").drawImage(picture, 0, 0);
    const now = performance.now();
    took = now - begun;
    pace += 0.1 * (1000 / (now - before) - pace);
    before = now;
    const quick = `${pace.toFixed(0)} pictures a second, ${took.toFixed(0)} ms from frame to picture`;
    say(answer.headers.get("X-Face") === "yes" ? quick : "No face is seen.");
  }
}

const isNeutral = () => post("/neutral").catch(() => {});
neutral.onclick = isNeutral;
document.onkeydown = (event) => { if (event.key === "n") isNeutral(); };
mirror.onchange = () => [result, camera].forEach((shown) => shown.classList.toggle("mirrored", mirror.checked));
mirror.checked = CAMERA !== null;
mirror.onchange();
run().catch((error) => {
  const asked = { NotAllowedError: "The browser gives no camera: allow it, and load the page again.",
    NotFoundError: "The browser finds no camera.", NotReadableError: "Another program has the camera.",
    TypeError: "The program has ended." };
  say(asked[error.name] || error.message);
}).finally(() => camera.srcObject && camera.srcObject.getTracks().forEach((track) => track.stop()));
</script>
</html>
"""


def page_of(name: str, camera: int | None) -> str:
    """The page of that name (:meth:`.preview.Preview.open`), with the number of a camera, or for a film."""
    return _PAGE.replace("{page}", json.dumps(name)).replace("{camera}", json.dumps(camera))
