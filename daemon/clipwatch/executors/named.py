"""The executor that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from clipwatch.executors.base import Executor
from clipwatch.executors.guarded import FAULTS, Guarded, told
from clipwatch.executors.local import LocalExecutor
from clipwatch.kit import plugins
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.settings import Settings

LOCAL: Final = "local"
"""This machine; it is there whatever is installed."""


def load(settings: Settings) -> Executor:
    """Return the executor that the settings name.

    Raises:
        SettingsError: There is none, its package is missing, or it cannot be made.
    """
    name = settings.compute.executor
    if name == LOCAL:
        return LocalExecutor(settings)
    make: Callable[[Settings], Executor] = plugins.load(plugins.EXECUTORS, name)
    try:
        return Guarded(make(settings), name)
    except ClipwatchError:
        raise
    except FAULTS as error:
        raise SettingsError(told(name, error), key="executor") from error
