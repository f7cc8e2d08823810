"""Serves the page to this computer alone."""

from __future__ import annotations

import os
import threading
from typing import Any

from ..errors import UserError
from ..loopback import LOOPBACK, NAMES, check_port
from .files import LARGEST, temporary_files


def serve(port: int, cpu: bool = False) -> None:
    """Serve until a signal ends the process; the temporary files are gone then.

    Raises:
        UserError: gradio is not there, or the port is taken.
    """
    with temporary_files() as temporary:
        # read when gradio is imported
        os.environ |= {"GRADIO_TEMP_DIR": str(temporary.path), "GRADIO_ANALYTICS_ENABLED": "False"}
        gradio = import_gradio()
        check_port(port)
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from .page import CSS, Page
        from .studio import Studio
        from .uploads import BrokenOff

        page = Page(Studio(cpu), temporary).build()
        page.launch(
            server_name=LOOPBACK,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            allowed_paths=[],
            blocked_paths=[],
            max_file_size=f"{LARGEST}mb",
            app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=NAMES), Middleware(BrokenOff)]},
            theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=CSS,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            pwa=False,
        )
        print(f"The page is at http://{LOOPBACK}:{port}/ (Ctrl+C ends it)", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def import_gradio() -> Any:
    try:
        import gradio
    except ImportError:
        raise UserError("the page needs gradio: pip install -r requirements-app.txt") from None
    return gradio
