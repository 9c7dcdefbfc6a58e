"""The process that judges: it lives on, reads each evaluation once, and judges as a fresh one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psutil
import pytest

from clipwatch.domain.events import EvaluationCompleted, EvaluationStarted, ImageScore, ImagesScored
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import BASE_NAME
from clipwatch.journal import Journal, log_file
from clipwatch.judging.base import Judgement, Question
from clipwatch.judging.log_judge import LogJudge, judge
from clipwatch.judging.process import JudgeProcess
from clipwatch.kit.errors import ClipwatchError
from clipwatch.results.reading import read_images
from loop_kit import until
from results_kit import Log, protocol
from world import World, checkpoint

MADE = protocol(prompts=40)
LATER = protocol(prompts=40, seed=2)
MEANS = [0.25, 0.27, 0.29, 0.29, 0.26, 0.25, 0.25, 0.30, 0.30, 0.27, 0.26]


def scored(log: Log, step: int, mean: float, made: EvaluationProtocol = MADE) -> Question:
    """Write down all images of an evaluation; return the question for what they say."""
    name = f"checkpoint-{step}" if step else BASE_NAME
    id_ = f"{name}/{made.digest[:8]}"
    luck = random.Random(f"{step} {made.digest}")
    images = [
        ImageScore(p.id, 0, n, {"": luck.gauss(mean, 0.01)}, look=f"{luck.getrandbits(64):016x}")
        for n, p in enumerate(made.prompts)
    ]
    log.add(
        "r",
        evaluation_stream("r", id_),
        EvaluationStarted(id_, name, step, "w" * 16, made.digest, {}),
        *(ImagesScored(id_, tuple(images[at : at + 16])) for at in range(0, len(images), 16)),
    )
    return Question(str(log_file(log.folder)), "r", id_, 0.22, 0.3, 3, {}, 20)


def wrote(log: Log, question: Question, found: Judgement) -> None:
    """Write a judgement down, as the daemon does."""
    log.add(
        "r",
        evaluation_stream("r", question.evaluation),
        EvaluationCompleted(
            question.evaluation,
            found.scores,
            against_base=found.against_base,
            against_best=found.against_best,
        ),
        *found.advice,
    )


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log with a run."""
    log = Log(tmp_path / "state")
    log.start("r", MADE)
    return log


@pytest.fixture
def process() -> Iterator[JudgeProcess]:
    """Return a judge in a process of its own, which is ended with the test."""
    with closing(JudgeProcess()) as process:
        yield process


def kill(process: JudgeProcess) -> None:
    """End the process as the kernel does when memory is short."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Whether a process has ended, if only as a zombie, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_living_process_judges_as_fresh_ones(log: Log, process: JudgeProcess) -> None:
    """To the last digit, over a training with a base, a late result, new settings, and kills."""
    steps = [0, *(100 * n for n in range(1, len(MEANS)))]
    steps[4], steps[5] = steps[5], steps[4]  # a late one
    pids, advised = set(), []
    for place, (step, mean) in enumerate(zip(steps, MEANS, strict=True)):
        question = scored(log, step, mean)
        found = process.judge(question)
        assert found == judge(question)
        wrote(log, question, found)
        pids.add(process.pid)
        advised += [it.kind for it in found.advice]
        if place in (3, 7):
            kill(process)
    log.change("r", LATER)
    for step in (1100, 1200):
        question = scored(log, step, 0.31, LATER)
        found = process.judge(question)
        assert found == judge(question)
        wrote(log, question, found)
    assert len(pids) == 3
    assert "regressed" in advised


def test_each_evaluation_is_read_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A living judge reads the images of the one it is asked for, a fresh one those of all."""
    read: list[str] = []

    def noted(
        journal: Journal, run: str, evaluation: str, *, further: bool
    ) -> tuple[ImageScore, ...]:
        read.append(evaluation)
        return read_images(journal, run, evaluation, further=further)

    monkeypatch.setattr("clipwatch.judging.log_judge.read_images", noted)
    living, asked = LogJudge(), []
    for step in range(100, 700, 100):
        question = scored(log, step, 0.3)
        asked.append(question.evaluation)
        wrote(log, question, living.judge(question))
    assert read == asked
    read.clear()
    living.close()
    living.judge(scored(log, 700, 0.3))
    assert read[:-1] == asked


def test_no_more_is_kept_than_is_looked_back_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest, the best, and the one that was asked for."""
    monkeypatch.setattr("clipwatch.judging.answer.MOST_POINTS", 3)
    living = LogJudge()
    for n, mean in enumerate(MEANS, 1):
        question = scored(log, 100 * n, mean)
        found = living.judge(question)
        assert found == judge(question)
        wrote(log, question, found)
    assert len(vars(living)["_points"]["r"]) <= 5


def test_a_process_that_dies_over_a_question_is_asked_again(log: Log, tmp_path: Path) -> None:
    """Once: what it was killed for may have passed, as when memory was short."""
    question = scored(log, 100, 0.3)
    (tmp_path / "dying.py").write_text(
        "import pathlib, sys\n"
        f"place = pathlib.Path({str(tmp_path / 'asked')!r})\n"
        "line = sys.stdin.buffer.readline()\n"
        "place.write_text(place.read_text() + 'x' if place.exists() else 'x')\n"
        "sys.exit('no such library')\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{before}")
        dying = JudgeProcess("dying")
        with pytest.raises(ClipwatchError, match=r"^it could not be judged: no such library$"):
            dying.judge(question)
    assert (tmp_path / "asked").read_text() == "xx"
    assert dying.pid is None


def test_one_that_hangs_is_ended(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its patience, once; the next question starts another."""
    (tmp_path / "hanging.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with closing(JudgeProcess("hanging", patience=0.3)) as hanging:
        with pytest.raises(ClipwatchError, match=r"no answer within 0\.3 s"):
            hanging.judge(scored(log, 100, 0.3))
        assert hanging.pid is None


def test_what_libraries_say_is_no_answer(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning before the answer is passed over, however much it is."""
    (tmp_path / "chatty.py").write_text(
        "import sys\n"
        "sys.stderr.write('{} is deprecated\\n' * 10_000)\n"
        "from clipwatch.judging.worker import main\n"
        "sys.exit(main())\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    question = scored(log, 100, 0.3)
    with closing(JudgeProcess("chatty")) as chatty:
        assert chatty.judge(question) == judge(question)


def test_what_cannot_be_told_is_said_in_a_line(log: Log, process: JudgeProcess) -> None:
    """No traceback, and the same process goes on."""
    question = scored(log, 100, 0.3)
    known = process.judge(question)
    pid = process.pid
    unknown = Question(question.log, "r", "nobody", None, None, 3, {}, 1000)
    with pytest.raises(ClipwatchError, match=r"^it could not be judged: .*no evaluation nobody$"):
        process.judge(unknown)
    assert process.judge(question) == known
    assert process.pid == pid


def test_closing_ends_a_question_under_way(log: Log, tmp_path: Path) -> None:
    """From another thread, and nothing of it is left."""
    (tmp_path / "hanging.py").write_text("import time\ntime.sleep(1000)\n")
    failed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        hanging = JudgeProcess("hanging")

        def ask() -> None:
            try:
                hanging.judge(question)
            except ClipwatchError as error:
                failed.append(str(error))

        question = scored(log, 100, 0.3)
        thread = threading.Thread(target=ask)
        thread.start()
        deadline = time.monotonic() + 60
        while hanging.pid is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        pid = hanging.pid
        hanging.close()
        thread.join()
    assert failed
    assert gone(pid)
    assert hanging.pid is None


def test_it_never_outlives_who_asks(log: Log) -> None:
    """A daemon that is killed takes it along."""
    question = scored(log, 100, 0.3)
    code = (
        "import os, signal, sys, msgspec\n"
        "from clipwatch.judging.base import Question\n"
        "from clipwatch.judging.process import JudgeProcess\n"
        "process = JudgeProcess()\n"
        "process.judge(msgspec.json.decode(sys.argv[1], type=Question))\n"
        "print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    told = msgspec.json.encode(question).decode()
    ended = subprocess.run(
        [sys.executable, "-c", code, told], stdout=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert gone(int(ended.stdout))


def test_nothing_is_written_to_the_log(log: Log, process: JudgeProcess) -> None:
    """It only reads."""
    question = scored(log, 100, 0.3)
    before = log_file(log.folder).read_bytes()
    assert process.judge(question).scores[""].n == len(MADE.prompts)
    assert log_file(log.folder).read_bytes() == before


def test_nothing_in_the_working_directory_is_imported(
    log: Log, process: JudgeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training's folder may hold files named like the judge's libraries."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('read from the training')")
    monkeypatch.chdir(tmp_path)
    assert process.judge(scored(log, 100, 0.3)).scores[""].n == len(MADE.prompts)


class Noted(JudgeProcess):
    """Notes by which processes it judged."""

    def __init__(self) -> None:
        super().__init__()
        self.pids: list[int | None] = []

    def judge(self, question: Question) -> Judgement:
        """Judge, and note by whom."""
        found = super().judge(question)
        self.pids.append(self.pid)
        return found


def test_a_daemon_has_one_and_ends_it(tmp_path: Path) -> None:
    """However many evaluations it has judged; its end does not wait for the kernel to do it."""
    world, noted = World(tmp_path), Noted()
    world.judge = noted
    for step in (100, 200, 300):
        checkpoint(world.output, step, step / 1000)
    assert world.once() == 0
    run = world.run
    assert all(it.clip and it.clip.low for it in run.evaluations.values())
    assert len(noted.pids) == 3
    (pid,) = set(noted.pids)
    assert pid is not None
    assert not psutil.pid_exists(pid)


@pytest.mark.thorough
def test_a_judge_that_is_not_asked_gives_back_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, and the next question starts another."""
    monkeypatch.setattr("clipwatch.loop.judgements.IDLE_SECONDS", 0.2)
    world, noted = World(tmp_path), Noted()
    world.judge = noted
    with world.live():
        checkpoint(world.output, 100, 0.1)
        until(lambda: bool(noted.pids) and noted.pid is None)
        assert noted.pids[0] is not None
        assert gone(noted.pids[0])
        checkpoint(world.output, 200, 0.2)
        until(lambda: len(noted.pids) == 2)
    assert len(set(noted.pids)) == 2
