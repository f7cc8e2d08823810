"""Live: a photograph follows a camera, or a video that plays, on a page in the browser.  ``python -m modules.live``."""
