"""A world small enough to train and to score a text-to-image model on a laptop's CPU."""
