"""The executor that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from clipwatch.executors.base import Executor
from clipwatch.executors.local import LocalExecutor
from clipwatch.kit import plugins
from clipwatch.settings import Settings

LOCAL: Final = "local"
"""This machine; it is there whatever is installed."""


def load(settings: Settings) -> Executor:
    """Return the executor that the settings name.

    Raises:
        SettingsError: There is none, or its package is missing.
    """
    name = settings.compute.executor
    if name == LOCAL:
        return LocalExecutor(settings)
    make: Callable[[Settings], Executor] = plugins.load(plugins.EXECUTORS, name)
    return make(settings)
