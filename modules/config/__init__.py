"""Configurations: strict dataclasses, one file of sections per stage, read from YAML and checked as a whole."""
