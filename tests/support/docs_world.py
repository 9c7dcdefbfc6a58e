"""A scratch world in which the documents' commands are typed: a finished training and its log.

`clipwatch` is the real program. What it would do for ever or to the machine is only read, as
`ONLY_READ` says. Other programs of the documents are stand-ins: they run the `clipwatch` in their
arguments, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from clipwatch.cli import main
from clipwatch.demo import models
from clipwatch.demo.world import COLOURS
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
)
from clipwatch.domain.merging import Shard
from clipwatch.domain.state import evaluation_id
from clipwatch.executors.messages import Failed
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.results.reading import scores_of
from clipwatch.tasks import parts
from places import SUPPORT
from real_world import environment, guarded
from world import World, checkpoint

PROMPTS = [f"{count} {colour} cats" for count in ("one", "two") for colour in COLOURS]
STEPS = (350, 400, 450, 500, 1000, 2000, 4000)
"""All that a document compares."""

ONLY_READ = {
    "demo": "takes minutes; test_demo_world.py runs it, and `make wheel` from the wheel",
    "status --watch": "is for a terminal; test_terminal.py has one",
    "systemd install": "writes to /etc; with --user it is run, and test_systemd.py boots it",
    "start": "never ends; with --print-settings it reads all that it would, with --once it is run",
    "rank": "loads torch; test_rank.py runs it",
    "score": "loads torch; with --images it is run",
    "ignored": "needs a model that answers; test_questions_run.py runs it",
    "rescore": "loads torch; test_rescore_killed.py runs it",
    "blend": "loads torch; test_blend_run.py runs it",
    "fetch": "loads torch; the first one is run",
    "serve": "never ends; test_serve.py asks it",
}

STAND_INS = {
    "accelerate": "the training",
    "docker": "needs an engine; test_container.py builds and runs the image",
    "git": "needs the repository's address",
    "hf": "needs a network",
    "journalctl": "needs a service",
    "kubectl": "needs a cluster; test_kubernetes.py checks the manifests",
    "loginctl": "changes the machine",
    "make": "builds this very tree; only its targets are looked up",
    "mlflow": "serves for ever; test_mlflow.py starts its server",
    "nohup": "starts what is its argument",
    "nvidia-smi": "needs a GPU",
    "pip": "needs a network; `make wheel` installs the wheel with it",
    "pipx": "needs a network",
    "python": "runs a trainer in an environment of its own",
    "python3": "makes an environment",
    "python3.12": "makes an environment",
    "ray": "starts a cluster; test_ray_run.py has one",
    "srun": "starts what is its argument",
    "sudo": "changes the machine",
    "systemctl": "needs systemd as root; test_systemd.py boots one",
    "tensorboard": "serves for ever; test_tensorboard_server.py starts it",
    "tmux": "starts what is its argument",
    "trackio": "serves for ever; test_trackio.py asks its dashboard",
    "uv": "needs a network",
    "uvx": "needs a network",
    "wandb": "needs a server; test_wandb_offline.py syncs",
    "comet": "needs a server; test_comet.py uploads",
}

_TOOLS = ("bash", "cat", "env", "id", "mkdir", "rm", "stat", "touch")

_CLIPWATCH = """\
#!/bin/bash
case "$*" in
    health*)  # nobody watches here
        {python} -m clipwatch "$@"; test $? = 1; exit;;
    retry*) export CLIPWATCH_STATE_DIR={failed};;
    blend* | demo* | rank* | rescore* | serve* | "systemd install"*)
        [[ "$*" == *--user* ]] || exec {python} -m docs_world "$@";;
    ignored*) exec {python} -m docs_world "$@";;  # none were asked here
    status*--watch*) exec {python} -m docs_world "$@";;
    best*--against*) exec {python} -m docs_world "$@";;  # the run here has one scorer
    *--scorer\\ loss*) exec {python} -m docs_world "$@";;  # and no held-out images
    score*) [[ "$*" == *--images* ]] || exec {python} -m docs_world "$@";;
    fetch*) mkdir {fetched} || exec {python} -m docs_world "$@";;
    start*)
        [[ "$*" == *--once* || "$*" == *--help* ]] || exec {python} -m clipwatch "$@" \
--print-settings;;
esac
exec {python} -m clipwatch "$@"
"""

_STAND_IN = """\
#!/bin/bash
while (($#)); do
    case "$1" in
        clipwatch | */clipwatch)
            [[ " {commands} " == *" ${{2:--}} "* ]] && exec clipwatch "${{@:2}}";;
        "clipwatch "*) exec bash -c "$1";;
    esac
    shift
done
"""

_ELSEWHERE = re.compile(r"(?<![\w.}])/(data|etc|home|mnt|opt|runs|shared|var)/")
_WORDS = {
    "A": "@400",
    "B": "@500",
    "CHECKPOINT": "output/checkpoint-500",
    "COMMAND": "status",
    "DIR": "images",
    "FILE": "config.json",
    "MODEL": "base",
    "N": "4",
    "NAME": "core",
    "NEW": "new-state",
    "PATH": "output/checkpoint-500",
    "PROMPTS": "prompts.txt",
    "SOURCE": "shared/other",
    "STEP": "500",
    "TRACKER": "tensorboard",
    "global_step": "500",
    "local_checkpoint_path": "output/checkpoint-500",
}


class DocsWorld:
    """A folder with a training, as the documents speak of one."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self._train(base)
        self._programs()
        assert self.type("clipwatch start --once").returncode == 0, self.type("clipwatch status")
        self._state = self.folder / "home/.local/state/clipwatch"
        (self.folder / "demo-run").mkdir()
        (self.folder / "demo-run/state").symlink_to(self._state)
        (self.folder / "var/lib/clipwatch").mkdir(parents=True)
        (self.folder / "var/lib/clipwatch/shapes").symlink_to(self._state)
        shutil.copytree(self._state, self.folder / "shared/other")
        self._fail()
        self._part()

    def _train(self, base: Path) -> None:
        (self.folder / "base").symlink_to(base)
        for step in STEPS:
            guarded(self.folder / "output", base, step)
        shutil.copytree(base, self.folder / "output/pipeline")
        trainers = self.folder / "output/logs/shapes"
        trainers.mkdir(parents=True)
        (trainers / "events.out.tfevents.1.host").touch()
        (self.folder / "prompts.txt").write_text("\n".join(PROMPTS))
        (self.folder / "my-prompts.csv").write_text("prompt\n" + "\n".join(PROMPTS))
        own = {
            "evaluation_type": "clip",
            "report_to": "tensorboard",
            "pretrained_evaluation_model_name_or_path": str(models.CLIP),
            "prompts": "prompts.txt",
            "device": "cpu",
            "batch_size": 12,
            "advice": {"low": 1.0, "after": 1},  # so that there is some
        }
        config = {
            "output_dir": "output",
            "tracker_project_name": "shapes",
            "pretrained_model_name_or_path": str(base),
            "validation_resolution": "32x32",
            "validation_num_inference_steps": 2,
            "clipwatch": own,
        }
        (self.folder / "config").mkdir()
        for name in ("config.json", "config/config.json"):
            (self.folder / name).write_text(json.dumps(config))
        own["prompts"] = str(self.folder / "prompts.txt")
        for name in ("trainings/a", "trainings/b"):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / "config.json").write_text(json.dumps(config))

    def _programs(self) -> None:
        self._bin = self.folder / "bin"
        self._bin.mkdir()
        for tool in _TOOLS:
            found = shutil.which(tool)
            assert found
            (self._bin / tool).symlink_to(found)
        ours = _CLIPWATCH.format(
            python=sys.executable,
            failed=self.folder / "failed/state",
            fetched=self.folder / "fetched",
        )
        other = _STAND_IN.format(commands=" ".join(main.commands))
        for name, text in {"clipwatch": ours, **dict.fromkeys(STAND_INS, other)}.items():
            (self._bin / name).write_text(text)
            (self._bin / name).chmod(0o755)
        for made in ("ENV", ".venv", "home/clipwatch"):
            (self.folder / made).mkdir(parents=True)
            (self.folder / made / "bin").symlink_to(self._bin)
        (self.folder / "clipwatch").mkdir()  # as git leaves it

    def _fail(self) -> None:
        """Have a checkpoint in a log of its own that was given up, for `retry`."""
        (self.folder / "failed").mkdir()
        failed = World(self.folder / "failed", max_attempts=1)
        checkpoint(failed.output, int(_WORDS["STEP"]))
        failed.script = lambda _: [Failed("weights", "3 of 9 tensors fit")]
        assert failed.once() == 1

    def _part(self) -> None:
        """Have all of a checkpoint in a part, as if jobs had scored it."""
        log = log_file(self._state)
        (run,) = read_state(log).values()
        known = run.checkpoints[f"checkpoint-{_WORDS['STEP']}"]
        protocol = run.protocols[run.protocol]
        id_ = evaluation_id(known, run.protocol)
        made = (known.kind or "full", known.component, known.files, known.digest)
        seen = CheckpointCompleted(known.step, known.name, known.path, *made)
        began = RunStarted(run.output_dir, "", (), {}, "1")
        defined = ProtocolDefined(run.protocol, protocol)
        place = (id_, known.name, known.step, known.digest, run.protocol)
        with parts.writing(self.folder / "parts", Shard(), began, defined, seen) as part:
            part.keep(EvaluationStarted(*place, environment={}))
            scored = scores_of(log, run.name, id_, protocol)
            part.keep(ImagesScored(id_, tuple(replace(it, image=None) for it in scored)))

    @property
    def run(self) -> str:
        """The run's name in the log."""
        told = json.loads(self.type("clipwatch status --json").stdout)
        name: str = told["runs"][0]["run"]
        return name

    def type(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the documents: with files of this world where they have no real ones."""
        text = re.sub(r"(?<= )[\w-]+(?=[ \n']|$)", lambda it: _WORDS.get(it[0], it[0]), script)
        text = re.sub(r"(?<= )RUN(?= |$)", lambda _: self.run, text)
        text = _ELSEWHERE.sub(lambda it: f"{self.folder}/{it[1]}/", text)
        kept = environment()
        ours = {"PATH": str(self._bin), "HOME": str(self.folder / "home"), "SLURM_JOB_ID": "1"}
        paths = [str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env={**kept, **ours, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )


def read(words: list[str]) -> None:
    """Parse a call as the program does, and do nothing.

    Raises:
        click.UsageError: It is wrong.
    """
    command, rest = main.commands[words[0]], words[1:]
    while inner := getattr(command, "commands", None):
        command, rest = inner[rest[0]], rest[1:]
    command.make_context(words[0], rest)


if __name__ == "__main__":
    read(sys.argv[1:])
