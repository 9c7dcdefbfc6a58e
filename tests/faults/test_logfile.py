"""The log's file: private, and refused where it is not ours, not a file or not to be had."""

from __future__ import annotations

import ast
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from clipwatch.domain.events import OutputDirChecked, RunStarted
from clipwatch.journal import Journal, Recorded, logfile
from clipwatch.journal.logformat import LogDamaged
from clipwatch.journal.repair.inspection import Fault, readable, verify
from clipwatch.kit.errors import JournalError

NOBODY = 65534
EVENT = OutputDirChecked("x")
BEGUN = RunStarted("/out", "p", (), {}, "1")


def opened(path: Path) -> str:
    """Return what reader and writer say of a path: the same, in one line."""
    said = set()
    for read_only in (True, False):
        with pytest.raises(JournalError) as refused:
            Journal(path, read_only=read_only)
        said.add(str(refused.value))
    [line] = said
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


AS_USER = """
import os, sys
from importlib.resources import files
from pathlib import Path
from clipwatch.domain.events import OutputDirChecked
from clipwatch.journal import Journal
(files("clipwatch.journal") / "schema.sql").read_text()
if os.getuid() != {user}:  # from here on modes apply; what is imported later may be out of reach
    os.setgroups([])
    os.setuid({user})
"""


def run_as(user: int, code: str, *arguments: object) -> str:
    """Run Python code as a user; return what it printed, with its error."""
    code = AS_USER.format(user=user) + textwrap.dedent(code)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def stranger() -> Callable[..., str]:
    """Run Python code as somebody to whom modes apply; root is above them."""
    user = NOBODY if os.getuid() == 0 else os.getuid()
    return lambda code, *arguments: run_as(user, code, *arguments)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that others can reach: those of pytest are its user's alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Show a folder at another place where nothing can be written."""
    made: list[Path] = []

    def mount(folder: Path) -> Path:
        place = tmp_path / f"read-only-{len(made)}"
        place.mkdir()
        bound = subprocess.run(["mount", "--bind", folder, place], capture_output=True, check=False)
        if bound.returncode:
            pytest.skip("a read-only mount needs root")
        made.append(place)
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        return place

    yield mount
    for place in made:
        subprocess.run(["umount", place], check=True)


# Not a log -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE notes (text)"],
        ["CREATE TABLE notes (text)", "PRAGMA user_version = 1"],
        ["CREATE TABLE notes (text)", "PRAGMA user_version = 7"],
        ["CREATE TABLE events (id, text)", "PRAGMA user_version = 1"],
        ["CREATE TABLE events (id, text)", "PRAGMA user_version = 2"],
        ["PRAGMA application_id = 1196444487"],
    ],
)
def test_the_database_of_another_program_is_left_as_it_is(
    tmp_path: Path, statements: list[str]
) -> None:
    """Whatever its version says: one line, and not a byte of it is changed."""
    path = tmp_path / "log.db"
    foreign = sqlite3.connect(path)
    for statement in statements:
        foreign.execute(statement)
    foreign.close()
    before = path.read_bytes()
    assert "another program" in opened(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("pragma", ["user_version = 0", "user_version = 1", "application_id = 0"])
def test_a_log_whose_marks_were_damaged_is_not_taken_for_anothers(
    tmp_path: Path, pragma: str
) -> None:
    """It is refused as damaged, and what it holds can be read."""
    path = tmp_path / "log.db"
    with Journal(path) as journal:
        journal.append("r", "s", 0, [EVENT])
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA {pragma}")
    db.close()
    assert re.search("its header says format .*clipwatch log --verify", opened(path))
    fault, event, *_ = readable(path)
    assert isinstance(fault, Fault)
    assert not isinstance(event, Fault)
    assert event.event == EVENT


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Text gives one line with the file's name, and verifying it tells the same."""
    path = tmp_path / "log.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 400)
    before = path.read_bytes()
    assert "file is not a database" in opened(path)
    assert str(next(verify(path))) == "file: file is not a database"
    assert all(isinstance(found, Fault) for found in verify(path))
    assert path.read_bytes() == before


OPEN = """
    from clipwatch.kit.errors import JournalError
    from clipwatch.journal.repair.inspection import verify
    path = Path(sys.argv[1])
    reader, verifier = (lambda: Journal(path, read_only=True)), (lambda: next(verify(path)))
    for use in (lambda: Journal(path)), reader, verifier:
        try:
            use()
        except JournalError as error:
            print(error)
"""


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A directory, a pipe or a device in the log's place: nobody waits for it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        line = f"{path}: is no regular file: choose another --state-dir\n"
        assert run_as(os.getuid(), OPEN, path) == 3 * line


def test_a_missing_log_is_told_to_a_reader_and_made_by_a_writer(tmp_path: Path) -> None:
    """Reading makes nothing."""
    path = tmp_path / "log.db"
    with pytest.raises(JournalError, match="unable to open"):
        Journal(path, read_only=True)
    with pytest.raises(JournalError, match="No such file"):
        list(verify(path))
    assert not path.exists()
    Journal(path).__exit__()
    assert path.exists()


def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    """A daemon killed as it began leaves one: a reader sees no event, a writer goes on."""
    path = tmp_path / "log.db"
    path.touch()
    assert list(readable(path)) == []
    assert [str(found) for found in verify(path)] == ["file: there is no log in it"]
    with Journal(path) as journal:
        assert journal.append("r", "s", 0, [EVENT]) == 1


@pytest.mark.parametrize("gone", [False, True])
def test_an_emptied_file_does_not_cost_what_its_wal_holds(tmp_path: Path, gone: bool) -> None:
    """SQLite deletes the -wal of an empty database; the log is refused before it can."""
    path, log = tmp_path / "log.db", tmp_path / "log.db-wal"
    code = "Journal(Path(sys.argv[1])).append('r', 's', 0, [OutputDirChecked('x')]); os._exit(0)"
    run_as(os.getuid(), code, path)
    path.write_bytes(b"")
    kept = log.read_bytes()
    if gone:
        path.unlink()
    for read_only in (False, True):
        with pytest.raises(LogDamaged, match=r"is empty, but log\.db-wal beside it is not"):
            Journal(path, read_only=read_only)
    if not gone:
        [event] = [found for found in verify(path) if not isinstance(found, Fault)]
        assert event.event == EVENT
    assert log.read_bytes() == kept
    assert path.exists() != gone


def test_a_log_that_is_just_being_made_is_not_taken_for_an_emptied_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes it between two looks at its files."""
    path = tmp_path / "log.db"
    path.touch()
    look, made = Path.stat, ExitStack()
    others = iter([lambda: made.enter_context(Journal(path))])

    def stat(file: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        try:
            return look(file, follow_symlinks=follow_symlinks)
        finally:
            next(others, lambda: None)()

    monkeypatch.setattr(Path, "stat", stat)
    with made:
        logfile.check(path)
        assert next(others, None) is None
        assert path.with_name("log.db-wal").stat().st_size > 0


# Whose it is ---------------------------------------------------------------------------------

MODES = """
    import threading
    folder, umask = Path(sys.argv[1]), int(sys.argv[2])
    os.umask(umask)
    seen, done = set(), False

    def watch():
        while not done:
            for at, _, names in os.walk(folder):
                for name in [".", *names]:
                    try:
                        found = os.stat(os.path.join(at, name))
                    except FileNotFoundError:
                        continue
                    if at != str(folder):
                        seen.add((name.replace("clipwatch", ""), oct(found.st_mode & 0o777)))

    thread = threading.Thread(target=watch)
    thread.start()
    for n in range(60):
        with Journal(folder / str(n) / "clipwatch.db") as journal:
            journal.append("r", "s", 0, [OutputDirChecked("x")])
    done = True
    thread.join()
    print(sorted(seen))
"""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.thorough(but=1)
def test_nobody_else_can_ever_read_the_log(tmp_path: Path, umask: int) -> None:
    """Whatever the umask, each file of it has mode 0600 and its folder 0700 whenever looked at."""
    seen = run_as(os.getuid(), MODES, tmp_path, umask)
    modes = dict(ast.literal_eval(seen))
    assert modes.pop(".") == "0o700"
    assert modes.keys() >= {".db", ".db-shm", ".db-wal"}
    assert set(modes.values()) == {"0o600"}
    assert seen.count("0o") == len(modes) + 1


def test_a_folder_that_may_not_be_entered_or_written_is_told(
    public: Path, stranger: Callable[..., str]
) -> None:
    """One line names the file, the reason and what to do; nothing is left behind."""
    code = "Journal(Path(sys.argv[1]) / 'state' / 'clipwatch.db')"
    public.chmod(0o555)
    said = stranger(code, public).splitlines()[-1]
    assert re.search(r"clipwatch\.db: Permission denied: .*--state-dir", said)
    public.chmod(0o755)
    (public / "state").mkdir(mode=0o000)
    assert "Permission denied" in stranger(code, public).splitlines()[-1]
    (public / "state").chmod(0o755)
    assert list((public / "state").iterdir()) == []


def test_whether_there_is_a_log_is_told_or_refused(
    public: Path, stranger: Callable[..., str]
) -> None:
    """A folder that may not be entered is not the same as one without a log."""
    code = "from clipwatch.journal import logfile; print(logfile.present(Path(sys.argv[1])))"
    path = public / "clipwatch.db"
    assert stranger(code, path) == "False\n"
    path.touch()
    assert stranger(code, path) == "True\n"
    assert stranger(code, path / "below") == "False\n"
    public.chmod(0o000)
    assert "JournalError: " in stranger(code, path)


def test_a_log_that_may_not_be_written_is_told_when_it_is_opened(
    public: Path, stranger: Callable[..., str]
) -> None:
    """Not first when an event is lost; one that may not be read either is told, too."""
    path = public / "clipwatch.db"
    with Journal(path) as journal:
        journal.append("r", "s", 0, [EVENT])
    public.chmod(0o555)
    for mode, reason in ((0o444, "readonly database"), (0o000, "unable to open database file")):
        path.chmod(mode)
        said = stranger("Journal(Path(sys.argv[1]))", path).splitlines()[-1]
        assert re.search(rf"clipwatch\.db: .*{reason}: .*--state-dir", said)


READ = """
    with Journal(Path(sys.argv[1]), read_only=True) as journal:
        print([recorded.event.problem for recorded in journal.read()])
"""


def test_a_log_is_read_by_who_may_only_read_it(public: Path, stranger: Callable[..., str]) -> None:
    """Beside its writer, when it can write neither -shm nor folder, and after its end."""
    path = public / "clipwatch.db"
    with Journal(path) as journal:
        journal.append("r", "s", 0, [EVENT])
        for file in public.iterdir():
            file.chmod(0o444)
        public.chmod(0o555)
        assert stranger(READ, path) == "['x']\n"
        journal.append("r", "s", 1, [OutputDirChecked("y")])
        assert stranger(READ, path) == "['x', 'y']\n"
    public.chmod(0o755)
    for file in public.iterdir():
        file.chmod(0o444)
    public.chmod(0o555)
    assert [file.name for file in public.iterdir()] == ["clipwatch.db"]
    assert stranger(READ, path) == "['x', 'y']\n"


def test_a_log_on_a_read_only_disk_is_read_and_not_written(
    tmp_path: Path, read_only: Callable[[Path], Path]
) -> None:
    """A backup can be read where it lies; a daemon is told at its start that it cannot write."""
    path = tmp_path / "state" / "clipwatch.db"
    with Journal(path) as journal:
        journal.append("r", "s", 0, [EVENT])
    place = read_only(path.parent)
    [recorded] = readable(place / path.name)
    assert recorded == next(verify(place / path.name))
    with pytest.raises(JournalError, match=r"unable to open .*writable.*--state-dir"):
        Journal(place / path.name)
    with pytest.raises(JournalError, match=r"Read-only file system: .*--state-dir"):
        Journal(place / "new" / path.name)


def test_a_crashed_daemons_log_on_a_read_only_disk_can_be_verified(
    tmp_path: Path, read_only: Callable[[Path], Path]
) -> None:
    """With its -wal, but without the -shm that SQLite would have to make beside it."""
    path = tmp_path / "state" / "clipwatch.db"
    with Journal(path) as journal:
        journal.append("r", "s", 0, [EVENT])
        (tmp_path / "copy").mkdir()
        for name in ("clipwatch.db", "clipwatch.db-wal"):
            shutil.copy(path.parent / name, tmp_path / "copy" / name)
    place = read_only(tmp_path / "copy")
    assert [f.event for f in verify(place / path.name) if not isinstance(f, Fault)] == [EVENT]
    with pytest.raises(JournalError, match=r"unable to open .*--state-dir"):
        list(readable(place / path.name))


@contextmanager
def descriptors(left: int) -> Iterator[None]:
    """Let this process open so many files more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, limits[1]))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        held: list[int] = []
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for number in held[left:]:
            stack.callback(os.close, number)
        for number in held[:left]:
            os.close(number)
        yield


def _read(path: Path, *, read_only: bool) -> Iterator[Recorded | Fault]:
    with Journal(path, read_only=read_only) as journal:
        yield from journal.read()


@pytest.mark.parametrize("pending", [False, True], ids=["merged", "in its -wal"])
@pytest.mark.parametrize("left", range(5))
def test_want_of_descriptors_is_no_fault_of_the_log(
    tmp_path: Path, left: int, pending: bool
) -> None:
    """It is read whole, or what lacks is told; a log with a -wal needs three."""
    with Journal(tmp_path / "one" / "clipwatch.db") as journal:
        journal.append("r", "run", 0, [BEGUN, EVENT])
        if pending:
            shutil.copytree(tmp_path / "one", tmp_path / "log")
    if not pending:
        shutil.copytree(tmp_path / "one", tmp_path / "log")
    path = tmp_path / "log" / "clipwatch.db"
    ways: list[Callable[[], Iterator[Recorded | Fault]]] = [
        lambda: verify(path),
        lambda: readable(path),
        lambda: _read(path, read_only=True),
        lambda: _read(path, read_only=False),  # the last: it merges the -wal
    ]
    assert [it.event for it in verify(path) if isinstance(it, Recorded)] == [BEGUN, EVENT]
    for number, way in enumerate(ways):
        lacks = left < (3 if pending or number == len(ways) - 1 else 1)
        with descriptors(left), ExitStack() as stack:
            if lacks:
                told = "this process has no file descriptor left to open it: raise its limit"
                stack.enter_context(pytest.raises(JournalError, match=re.escape(told)))
            assert [getattr(it, "event", it) for it in way()] == [BEGUN, EVENT]
