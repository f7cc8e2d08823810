"""The web page of ``app.py``: what people do on it, one piece of work at a time."""
