"""Uploads that break off: what has come of them is removed at once."""

from __future__ import annotations

from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD = "/upload"  # how the addresses end that files are sent to


class BrokenOff:
    """Calls an upload malformed if the connection ends before it does.

    Gradio's parser removes the files of a malformed upload; those of one that breaks off it would leave.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_whole = scope["type"] != "http" or not scope["path"].endswith(UPLOAD)

        async def received() -> Message:
            nonlocal is_whole
            message = await receive()
            if message["type"] == "http.disconnect" and not is_whole:
                raise MultiPartException("the upload broke off")
            is_whole = is_whole or not message.get("more_body", False)
            return message

        await self.app(scope, received, send)
