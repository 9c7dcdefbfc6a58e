"""What the scores of an evaluation mean beside those before it."""
