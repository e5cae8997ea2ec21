"""What the shipped guard is trained on, drawn by seed, and the loop that trains it."""
