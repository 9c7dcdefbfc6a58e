"""What the trainer's configuration and our own say together, read once and passed on."""

from clipwatch.settings.keys import Key
from clipwatch.settings.load import load
from clipwatch.settings.parts import Advice
from clipwatch.settings.settings import KEYS, Settings
from clipwatch.settings.values import Setting

__all__ = ["KEYS", "Advice", "Key", "Setting", "Settings", "load"]
