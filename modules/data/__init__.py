"""Training and test data: clips and photographs on disk in, batches of frames out."""
