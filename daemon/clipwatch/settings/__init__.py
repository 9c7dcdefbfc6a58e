"""What the trainer's configuration and our own say together, read once and passed on."""

from clipwatch.settings.keys import KEYS, Key
from clipwatch.settings.load import load
from clipwatch.settings.values import Advice, Setting, Settings

__all__ = ["KEYS", "Advice", "Key", "Setting", "Settings", "load"]
