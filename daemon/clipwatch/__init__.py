"""clipwatch: a sidecar that scores checkpoints with CLIP and never touches the training."""

from importlib.metadata import version

__version__ = version("clipwatch")
