"""Serves the page to this computer alone, by Python's own server.

The page asks for a picture, waits for it, shows it, and asks for the next one: no frame ever waits in a queue.
"""

from __future__ import annotations

import math
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ..errors import UserError
from ..loopback import LOOPBACK, NAMES
from .page import page_of
from .preview import Preview

LARGEST = 8 * 2**20  # bytes of a camera's picture
ELSEWHERE = "This is open in another window."
PAGE, ROUND_TRIP, FACE = "X-Page", "X-Round-Trip", "X-Face"  # headers; scripts of other sites cannot send them


class Handler(BaseHTTPRequestHandler):
    """Answers one browser.

    Args:
        camera: number of the browser's camera; None: a film is played.
    """

    protocol_version = "HTTP/1.1"  # one connection for all pictures
    disable_nagle_algorithm = True
    timeout = 60  # seconds for a question to come whole

    def __init__(self, *connection: object, preview: Preview, camera: int | None):
        self.preview, self.camera = preview, camera
        super().__init__(*connection)

    def do_GET(self) -> None:
        if not self._is_asked_here():
            return
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):  # it would end the open page
            self._answer(403, b"Type the address; a page of another site may not open it.")
            return
        if self.path != "/":
            self._answer(404, b"There is nothing here.")
            return
        self._answer(200, page_of(self.preview.open(), self.camera).encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= LARGEST):
            self.close_connection = True  # whose rest is not read
            self._answer(413, b"The picture is too large.")
            return
        sent = self.rfile.read(int(length))
        if not self._is_asked_here():
            return
        if not self.preview.is_open(self.headers.get(PAGE, "")):
            self._answer(409, ELSEWHERE.encode())
        elif self.path == "/neutral":
            self.preview.calibrate()
            self._answer(204)
        elif self.path == "/frame":
            self._frame(sent)
        else:
            self._answer(404, b"There is nothing here.")

    def _frame(self, sent: bytes) -> None:
        try:
            drawn = self.preview.answer(sent, _seconds(self.headers.get(ROUND_TRIP)))
        except UserError as error:
            self._answer(400, str(error).encode())
            return
        if drawn is None:
            self._answer(204)
        else:
            self._answer(200, drawn.picture, "image/jpeg", {FACE: "yes" if drawn.has_face else "no"})

    def _is_asked_here(self) -> bool:
        """Whether it was asked for by a name of this computer; else that is answered."""
        is_here = self.headers.get("Host", "").partition(":")[0] in NAMES
        if not is_here:
            self._answer(400, b"Ask by the address that the program has printed.")
        return is_here

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        kind: str = "text/plain; charset=utf-8",
        more: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Frame-Options", "DENY")
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: every picture would be a line."""


class Server(ThreadingHTTPServer):
    """Whose browsers may go away at any moment."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        import sys
        import traceback

        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            traceback.print_exc()


def serve(preview: Preview, port: int, camera: int | None) -> None:
    """Serve until the film ends, the page is left, or Ctrl+C; then print how quick it was.

    Raises:
        UserError: what ended it.
    """
    server = Server((LOOPBACK, port), partial(Handler, preview=preview, camera=camera))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"Live at http://{LOOPBACK}:{port}/ (Ctrl+C ends it, and closing the page)", flush=True)
    try:
        while not (preview.ended.wait(0.5) or preview.is_left):
            pass
    except KeyboardInterrupt:
        print()  # below the terminal's ^C
    finally:
        told = preview.close()
        server.shutdown()
        server.server_close()
        print(told, flush=True)
    if preview.error is not None:
        raise preview.error


def _seconds(text: str | None) -> float:
    """What a page says to have measured; 0 where it says nothing that can be."""
    try:
        seconds = float(text or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
