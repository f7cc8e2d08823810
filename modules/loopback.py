"""Pages for this computer alone: their address, and whether they can be had there."""

from __future__ import annotations

import socket

from .errors import UserError, cause

LOOPBACK = "127.0.0.1"
NAMES = [LOOPBACK, "localhost"]  # by which a page may be asked for; others are of a site that pretends to be here


def check_port(port: int) -> None:
    """UserError where another program listens, or ports are not for everybody."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError as error:
            raise UserError(f"--port {port}: cannot be used ({cause(error)}); choose another") from None
