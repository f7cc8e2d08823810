"""Judges: networks that measure, of their own, trained on nothing that they measure."""
