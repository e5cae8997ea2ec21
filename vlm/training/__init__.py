"""Training: one readable loop, its data, its state on disk."""
