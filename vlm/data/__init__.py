"""Training data: the procedural worlds, shards, mixtures and packing."""
