"""From a checkpoint to images."""
