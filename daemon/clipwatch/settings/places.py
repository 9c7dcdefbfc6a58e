"""Which file, folder or model a written name means."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from clipwatch.settings.values import Given

_EXAMPLES = "config/examples/"
_ABOVE_EXAMPLES = "config/"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Places:
    """Where relative names are looked for; all absolute.

    Names in files: the trainer's working directory, then the config's folder. Names in flags and
    in the environment: the directory of the call. What the trainer's file calls config/examples/
    is the package's, where SimpleTuner is installed (its configuration/json_file.py).
    """

    cwd: Path
    working_dir: Path
    folder: Path
    package: Path | None = None

    @classmethod
    def of(cls, config: Path, cwd: Path, working_dir: Given, package: Path | None = None) -> Places:
        """Settle the working directory first: one that a file names is relative to that file.

        Raises:
            SettingsError: It is not a folder.
        """
        named = working_dir.value
        start = working_dir.file.parent if working_dir.file and named else cwd
        chosen = below(start, named) if named else cwd
        if not stat.S_ISDIR(mode(chosen, working_dir)):
            raise working_dir.error(f"there is no folder {str(chosen)!r}")
        return cls(cwd, chosen, config.parent, package)

    def path(self, given: Given) -> Path:
        """Return the absolute path: the first that exists, else the first of all.

        Symlinks are kept: what they point to may change while we watch.

        Raises:
            SettingsError: The system does not let us look there.
        """
        candidates = self._candidates(given)
        return next((path for path in candidates if mode(path, given)), candidates[0])

    def existing(self, given: Given) -> Path:
        """Return the absolute path of something that is there.

        Raises:
            SettingsError: It is not; names where it was looked for.
        """
        path = self.path(given)
        if not mode(path, given):
            looked = " and ".join(
                dict.fromkeys(repr(str(path)) for path in self._candidates(given))
            )
            raise given.error(f"there is no {looked}", fix=self._advice(given))
        return path

    def file(self, given: Given) -> Path:
        """Return the absolute path of a regular file.

        Raises:
            SettingsError: There is none, or something else.
        """
        path = self.existing(given)
        if not stat.S_ISREG(mode(path, given)):
            raise given.error(f"{str(path)!r} is not a regular file", fix="name one")
        return path

    def model(self, given: Given) -> str:
        """Return the absolute path of a local model's folder, or the Hub id as it is.

        Raises:
            SettingsError: It reads as a path to nothing or to a file, or as neither.
        """
        name: str = given.value
        reads_as_path = name.startswith((".", "/", "~")) or name.count("/") > 1
        if not reads_as_path and not mode(self.path(given), given):
            if not _HUB_ID.fullmatch(name):
                raise given.error(f"{name!r} is neither a folder nor a Hub id like owner/name")
            return name
        path = self.existing(given)
        if not stat.S_ISDIR(mode(path, given)):
            raise given.error(
                f"{str(path)!r} is a single file", fix="name a model folder or a Hub id"
            )
        return str(path)

    def unlikely(self, given: Given) -> tuple[str, ...]:
        """Tell of a Hub id that may be meant as a path.

        Its owner is the name of a folder here, or it has none, as on the Hub only a few old ones.
        """
        name = str(given.value or "")
        if not _HUB_ID.fullmatch(name):
            return ()
        paths = self._candidates(given)
        if any(mode(path, given) for path in paths):
            return ()
        if "/" not in name:
            looked = " or ".join(dict.fromkeys(repr(str(path)) for path in paths))
            taken = f"{name!r} is taken for a Hub id, though most are owner/name"
            return (given.told(f"there is no folder {looked}: {taken}"),)
        near = next((path for path in paths if stat.S_ISDIR(mode(path.parent, given))), None)
        if near is None:
            return ()
        return (given.told(f"there is no folder {str(near)!r}: {name!r} is taken for a Hub id"),)

    def _candidates(self, given: Given) -> list[Path]:
        bases = (self.working_dir, self.folder) if given.file else (self.cwd,)
        candidates = [below(base, given.value) for base in bases]
        if self.package and given.trainers and given.value.startswith(_EXAMPLES):
            packaged = below(self.package, given.value.removeprefix(_ABOVE_EXAMPLES))
            if packaged.is_relative_to(self.package):
                candidates.insert(0, packaged)
        return candidates

    def _advice(self, given: Given) -> str:
        if given.value.startswith(_EXAMPLES) and given.trainers and not self.package:
            return (
                "SimpleTuner has it in its package, and is not installed here: name where it is "
                'with "clipwatch": {"simpletuner_path": "..."}, or copy the file'
            )
        return "correct the path"


def mode(path: Path, given: Given) -> int:
    """Return type and permissions of what is there, 0 if nothing is.

    Raises:
        SettingsError: The system does not let us look there: no permission, too long a name, ...
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise given.error(f"{str(path)!r} cannot be looked at: {error.strerror}") from None


def tidy(path: Path) -> Path:
    """Remove "..", unless that would lead elsewhere because of a symlink."""
    short = Path(os.path.normpath(path))
    return short if os.path.realpath(short) == os.path.realpath(path) else path


def below(base: Path, name: str) -> Path:
    """Return the absolute path that a written name means in the folder `base`."""
    home = os.path.expanduser(name)  # noqa: PTH111 - Path's raises for a user whom nobody knows
    return tidy(base / home)
