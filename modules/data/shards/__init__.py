"""Captioned portraits in tar shards, as webdataset lays them out."""
