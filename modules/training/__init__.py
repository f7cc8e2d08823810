"""The one way to train: loop, runs, processes, averages, checkpoints."""
