"""Where an evaluation runs. No torch."""
