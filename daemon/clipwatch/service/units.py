"""The files of the service: from the shipped templates and a run's facts to paths and texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from clipwatch.kit.errors import ClipwatchError, SettingsError

UNIT = "clipwatch@.service"
EXECUTABLE = "/opt/clipwatch/bin/clipwatch"
"""The command in the shipped template, which stands for the installed one."""

SYSTEM_ONLY = "# Only the system's manager"
"""How the line begins from which on, up to [Install], a user's manager cannot follow."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Run:
    """What the files say about a run.

    Attributes:
        name: The instance: clipwatch@NAME.
        config: The trainer's configuration, absolute.
        working_dir: The trainer's, absolute.
        output_dir: Absolute.
        logging_dir: TensorBoard's, absolute.
        user: Who trains, by name or number; a user's own services run as that user.

    Raises:
        SettingsError: The name or a path cannot stand in a unit.
    """

    name: str
    config: Path
    working_dir: Path
    output_dir: Path
    logging_dir: Path
    user: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                f"{self.name!r} names no service", fix="use letters, digits, _ . and -"
            )
        for path in (self.config, self.working_dir, self.output_dir, self.logging_dir):
            if _UNPRINTABLE.search(str(path)):
                raise SettingsError(f"{str(path)!r} has a character that no unit can hold")


def template(name: str) -> str:
    """Return a shipped file's text: systemd/NAME of the source."""
    return (files("clipwatch") / "systemd" / name).read_text(encoding="utf-8")


def system_files(executable: Path, run: Run | None) -> dict[Path, str]:
    """Return what the system's manager needs: the template, and the run's facts if there is one.

    Args:
        executable: The installed clipwatch, absolute.
        run: With its user.
    """
    units = Path("/etc/systemd/system")
    texts = {
        units / UNIT: _with_command(template(UNIT), executable),
        Path("/etc/sysusers.d/clipwatch.conf"): template("clipwatch.conf"),
    }
    if run is not None:
        texts[Path(f"/etc/clipwatch/{run.name}.env")] = _environment(run)
        texts[units / f"clipwatch@{run.name}.service.d" / "run.conf"] = _drop_in(run)
    return texts


def user_files(executable: Path, run: Run | None, config_home: Path) -> dict[Path, str]:
    """Return what a user's own manager needs.

    Args:
        executable: The installed clipwatch, absolute.
        run: Its user is not asked for.
        config_home: ~/.config.
    """
    shared, _, rest = template(UNIT).partition(SYSTEM_ONLY)
    install = rest[rest.index("[Install]") :].replace("multi-user.target", "default.target")
    unit = (shared + install).replace("/etc/clipwatch", str(config_home / "clipwatch"))
    texts = {config_home / "systemd/user" / UNIT: _with_command(unit, executable)}
    if run is not None:
        texts[config_home / "clipwatch" / f"{run.name}.env"] = _environment(run)
    return texts


def write(texts: dict[Path, str], *, force: bool) -> dict[Path, str]:
    """Write all files, or none if one would lose what a person wrote; return what was done to each.

    Raises:
        ClipwatchError: A file there says something else, and `force` is not given; or the system
            does not let us write.
    """
    try:
        there = {path: path.read_text(errors="replace") for path in texts if path.exists()}
        changed = [str(path) for path, text in there.items() if text != texts[path]]
        if changed and not force:
            raise ClipwatchError(
                f"{' and '.join(changed)} would change, and nothing was written",
                fix="compare with `clipwatch systemd show`, and replace with --force",
            )
        for path, text in texts.items():
            if there.get(path) != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ClipwatchError(
            f"{error.filename}: {error.strerror}",
            fix="the system's services are root's to write (sudo), --user writes yours",
        ) from error
    return {
        path: "wrote" if path not in there else "unchanged" if there[path] == text else "replaced"
        for path, text in texts.items()
    }


def _with_command(unit: str, executable: Path) -> str:
    return unit.replace(EXECUTABLE, _quoted(str(executable)))


def _environment(run: Run) -> str:
    return f"""\
# Settings of clipwatch@{run.name}, each a CLIPWATCH_* variable; they win over the unit's own.
CLIPWATCH_CONFIG={_shell_quoted(run.config)}
CLIPWATCH_WORKING_DIR={_shell_quoted(run.working_dir)}
# the GPU that the training leaves free
#CLIPWATCH_DEVICE=cuda:1
# the models that the training fetched already
#HF_HOME=/home/alice/.cache/huggingface
"""


def _drop_in(run: Run) -> str:
    """Fill systemd/examples/run.conf in."""
    text = template("examples/run.conf").replace("@RUN.", f"@{run.name}.")
    text = text.replace(" RUN ", f" {run.name} ").replace("=alice", f"={run.user}")
    output, logs = str(run.output_dir), str(run.logging_dir)
    for example, path in (
        ("/data/outputs/run", output),
        ("-/data/outputs/run", f"-{output}"),
        ("-/data/outputs/run/logs", f"-{logs}"),
    ):
        text = text.replace(f"={example}\n", f"={_quoted(path)}\n")
    return text


def _quoted(word: str) -> str:
    """Return a word of a unit file that means this text (systemd.syntax(7))."""
    word = word.replace("%", "%%")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shell_quoted(path: Path) -> str:
    """Return a value of an environment file that means this path (systemd.exec(5))."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", str(path)) + '"'
