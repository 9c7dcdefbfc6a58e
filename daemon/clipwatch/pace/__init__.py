"""What a checkpoint costs against how often one is saved, told before it is paid. Pure."""

from clipwatch.pace.measure import Save, pace_of, saves_of
from clipwatch.pace.values import Pace, is_news
from clipwatch.pace.words import line, remedy, told

__all__ = ["Pace", "Save", "is_news", "line", "pace_of", "remedy", "saves_of", "told"]
