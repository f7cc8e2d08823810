"""Measuring what the models do, on real files."""
