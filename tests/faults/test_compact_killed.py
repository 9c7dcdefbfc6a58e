"""`clipwatch compact` and `clipwatch backup` killed (-9): a log is whole, the old or the new."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clipwatch.journal import Journal
from clipwatch.journal.compacting import compact
from clipwatch.journal.projection import read_state
from clipwatch.journal.repair.inspection import verify
from clipwatch.tasks.backup import back_up
from histories import write

KILLER = """
    import json, os, shutil, signal, sys
    from pathlib import Path
    from clipwatch.domain.events import OutputDirChecked
    from clipwatch.journal import Journal
    from clipwatch.journal.compacting import compact
    from clipwatch.tasks.backup import back_up

    CHANGES = {
        *("execute", "executemany", "close", "connect", "link", "replace", "rename", "unlink"),
        *("fsync", "open", "write"),
    }

    def act(folder):
        if sys.argv[2] == "compact":
            compact(folder / "clipwatch.db", folder / "kept", lambda *_: None)
        else:
            back_up(folder, folder / "copy")

    def killed(folder, calls):
        made = 0
        def count(_frame, event, called):
            nonlocal made
            if event == "c_call" and called.__name__ in CHANGES:
                made += 1
                if made > calls:
                    os.kill(os.getpid(), signal.SIGKILL)
        if (child := os.fork()) == 0:
            sys.setprofile(count)
            act(folder)
            os._exit(0)
        return os.waitpid(child, 0)[1] != 0

    source, found = Path(sys.argv[1]), []
    act(Path(shutil.copytree(source, source.with_name("first"))))  # which imports all
    calls, every = 0, int(sys.argv[3])
    while True:
        folder = source.with_name(f"killed-{calls}")
        shutil.copytree(source, folder)
        if not killed(folder, calls):
            break
        found.append(folder.name)
        calls += every
    print(json.dumps(found))
"""


def killed(source: Path, what: str, every: int) -> list[Path]:
    """Have it killed before every so manieth call that changes something; return what was left."""
    import textwrap

    command = [sys.executable, "-c", textwrap.dedent(KILLER), str(source), what, str(every)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [source.with_name(name) for name in json.loads(done.stdout)]


@pytest.mark.thorough
def test_a_killed_compaction_leaves_the_old_log_or_the_new_one(tmp_path: Path) -> None:
    """Killed at each of its steps; another call goes on, and nothing of the first stays."""
    (source := tmp_path / "source").mkdir()
    log = write(source, 7, 12)
    state, old = read_state(log), len(list(verify(log)))
    left = killed(source, "compact", 6)
    new = len(list(verify(tmp_path / "first/clipwatch.db")))
    assert new < old
    seen = set[int]()
    for folder in left:
        path = folder / "clipwatch.db"
        assert read_state(path) == state
        seen.add(len(list(verify(path))))
        if (folder / "kept").exists():
            assert len(list(verify(folder / "kept"))) == old
        compact(path, None, lambda *_: None)
        assert (read_state(path), len(list(verify(path)))) == (state, new)
        assert [it.name for it in folder.glob(".*")] == []
    assert seen == {old, new}
    assert len(left) > 10


@pytest.mark.thorough
def test_a_killed_backup_is_a_beginning_and_goes_on(tmp_path: Path) -> None:
    """Killed at each of its steps: what is there are the log's first events, as they are."""
    (source := tmp_path / "source").mkdir()
    log = write(source, 6)
    told = list(verify(log))
    left = killed(source, "backup", 2)
    assert len(left) > 5
    seen = set[int]()
    for folder in left:
        copy = folder / "copy/clipwatch.db"
        if copy.exists():
            with Journal(copy, read_only=True) as journal:
                found = list(journal.read())
            seen.add(len(found))
            assert found == told[: len(found)]
        assert back_up(folder, folder / "copy").events == len(told)
        assert list(verify(copy)) == told
    assert seen == {0, len(told)}
