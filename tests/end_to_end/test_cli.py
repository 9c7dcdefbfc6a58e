"""The commands as a user types them: what they print, and with which exit code they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clipwatch import __version__
from clipwatch.cli import main
from clipwatch.cli.options import CONFIGS
from clipwatch.executors.local import LocalExecutor
from clipwatch.journal import log_file
from clipwatch.settings import Settings
from world import ScriptedEvaluator, World, checkpoint


def scripted(settings: Settings) -> LocalExecutor:
    """Run evaluators that follow a script."""
    return LocalExecutor(settings, ScriptedEvaluator)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Return the state directory of a run with two published checkpoints and a partial one."""
    world = World(tmp_path)
    for step in (100, 200):
        checkpoint(world.output, step, step)
    (checkpoint(world.output, 300) / ".guard").unlink()
    assert world.once() == 0
    return world.settings.paths.state_dir


def test_version_and_help_tell_what_it_is() -> None:
    """Both end with 0; the help names every command."""
    assert __version__ in call("--version").output
    told = call("--help")
    assert told.exit_code == 0
    for command in ("start", "status", "health", "log", "score", "notify", "prompts", "demo"):
        assert f"\n  {command} " in told.output


NO_TORCH = """
import sys
from clipwatch.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
never = {"torch", "transformers", "diffusers", "wandb", "tensorboard", "watchdog"}
never |= {"comet_ml", "mlflow", "swanlab", "trackio"}
heavy = never & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "command",
    [["--help"], ["status"], ["status", "--json"], ["log"], ["log", "--json"], ["notify", "x"]],
)
def test_what_must_answer_at_once_imports_nothing_heavy(scored: Path, command: list[str]) -> None:
    """Help, status and log do without torch, transformers, diffusers and all trackers."""
    where = [] if command == ["--help"] else ["--state-dir", str(scored)]
    code = [sys.executable, "-c", NO_TORCH, *command, *where]
    ended = subprocess.run(code, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_daemon_itself_is_small() -> None:
    """Supervisor, scoring command and adapters import no torch, and no tracker's package.

    Loaded as they are for `report_to: all`; TensorBoard's is the exception, for its small writer.
    """
    code = "import sys, clipwatch.loop.supervisor, clipwatch.tasks.score\n"
    code += "from importlib.metadata import entry_points\n"
    code += "[it.load() for it in entry_points(group='clipwatch.adapters')]; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    never = {"torch", "diffusers", "transformers", "wandb", "comet_ml", "mlflow", "swanlab"}
    assert (never | {"trackio"}).isdisjoint(ended.stdout.split())


def test_status_shows_each_checkpoint_with_its_state(scored: Path) -> None:
    """As a table for people and as the documented object for programs."""
    text = call("status", "--state-dir", scored).output
    assert "checkpoint-200" in text
    assert "no .guard in it" in text
    assert "clip/mean" in text
    told = json.loads(call("status", "--json", "--state-dir", scored).output)
    listed = told["runs"][0]["checkpoints"]
    assert [(item["step"], item["state"]) for item in listed] == [
        (100, "published"),
        (200, "published"),
        (300, "waiting"),
    ]
    assert set(listed[0]["clip"]) >= {"mean", "min", "max", "std", "n", "low", "high"}
    assert listed[0]["published"] == {"memory": True}
    assert listed[2]["clip"] is None


def test_status_and_log_of_nothing_are_no_error(tmp_path: Path) -> None:
    """Before the first start there is nothing to show."""
    assert "nothing yet" in call("status", "--state-dir", tmp_path).output
    assert json.loads(call("status", "--json", "--state-dir", tmp_path).output) == {"runs": []}
    log = call("log", "--state-dir", tmp_path)
    assert (log.exit_code, log.stdout, log.stderr) == (0, "", f"nothing yet in {tmp_path}\n")
    assert not log_file(tmp_path).exists()


def test_the_log_is_printed_one_object_a_line(scored: Path) -> None:
    """Each line has seq, time, run, type and data; seq counts from 1 without gaps."""
    lines = [
        json.loads(line)
        for line in call("log", "--json", "--state-dir", scored).output.splitlines()
    ]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(set(line) == {"seq", "time", "run", "type", "data"} for line in lines)
    assert {"RunStarted", "CheckpointCompleted", "ImagesScored", "Published"} <= {
        line["type"] for line in lines
    }
    assert call("log", "--state-dir", scored).output.count("\n") == len(lines)


def test_no_configuration_is_told_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 and one line."""
    monkeypatch.chdir(tmp_path)
    ended = call("start")
    assert ended.exit_code == 2
    assert all(name in ended.output for name in CONFIGS)
    assert ended.output.count("\n") == 1


MISSPELT = """\
{"output_dir": "o", "evaluation_type": "clip", "pretrained_model_name_or_path": "some/model",
"report_to": "tensorbord"}
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"output_dir": "o", "model_family": "sdxl"}', "evaluation_type"),
        ('{"output_dir": "o"}', "pretrained_model_name_or_path"),
        ('{"output_dir": "o", "evaluation_type": "fid"}', "evaluation_type"),
        ('{"output_dir": "o",\n "evaluation_type" "clip"}', "config.json:2"),
        (MISSPELT, "config.json:2: report_to: "),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line_and_two(
    tmp_path: Path, text: str, says: str
) -> None:
    """File, line and key are told, nothing is started, no traceback."""
    config = tmp_path / "config.json"
    config.write_text(text)
    ended = call("start", "--config", config, "--state-dir", tmp_path / "state", "--once")
    assert ended.exit_code == 2
    assert says in ended.output
    assert ended.output.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_a_mistyped_output_directory_leaves_no_run_behind(tmp_path: Path) -> None:
    """With --once there is nothing to wait for: one line, and no log."""
    config = tmp_path / "config.json"
    keys = {"output_dir": str(tmp_path / "nothere"), "pretrained_model_name_or_path": "some/model"}
    config.write_text(json.dumps({**keys, "clipwatch": {"evaluation_type": "clip"}}))
    ended = call("start", "--config", config, "--state-dir", tmp_path / "state", "--once")
    assert ended.exit_code == 2
    (line,) = (it for it in ended.stderr.splitlines() if not it.startswith("Note: "))
    told = f"output_dir: does not exist: correct the path {tmp_path / 'nothere'}"
    assert line == f"Error: {told}"
    assert not (tmp_path / "state").exists()


def test_print_settings_shows_each_value_and_its_source(tmp_path: Path) -> None:
    """Values from the file carry its line, those of the call their flag; nothing is started."""
    (tmp_path / "base").mkdir()
    config = tmp_path / "config.json"
    config.write_text(
        '{\n"output_dir": "o", "evaluation_type": "clip",\n'
        '"pretrained_model_name_or_path": "./base", "validation_seed": 0}'
    )
    state = tmp_path / "state"
    ended = call("start", "-c", config, "--print-settings", "--device", "cpu", "--state-dir", state)
    assert ended.exit_code == 0
    assert "validation_seed = 0  (config.json:3)" in ended.output
    assert 'device = "cpu"  (--device)' in ended.output
    assert 'batch_size = "auto"  (default)' in ended.output
    assert not state.exists()


def test_a_slip_in_a_key_of_the_trainer_is_pointed_out(tmp_path: Path) -> None:
    """It may be the trainer's own key, so it is a note and no error."""
    (tmp_path / "base").mkdir()
    config = tmp_path / "config.json"
    config.write_text(
        '{"output_dir": "o", "evaluation_type": "clip",\n"--validation_num_inferece_steps": 3,'
        '"pretrained_model_name_or_path": "./base", "pretrained_t5_model_name_or_path": "x"}'
    )
    ended = call("start", "-c", config, "--print-settings")
    assert ended.exit_code == 0
    told, slip = ended.stderr.splitlines()
    assert told.startswith(
        "Note: config.json:2: pretrained_t5_model_name_or_path: SimpleTuner takes"
    )
    assert slip == (
        "Note: config.json:2: --validation_num_inferece_steps is not read: "
        "did you mean 'validation_num_inference_steps'?"
    )


def test_an_unevaluable_checkpoint_is_refused_by_score_with_its_reason(tmp_path: Path) -> None:
    """Exit code 1, one line, no torch needed to say so."""
    (tmp_path / "base").mkdir()
    (tmp_path / "config.json").write_text(
        '{"output_dir": "o", "pretrained_model_name_or_path": "./base"}'
    )
    folder = checkpoint(tmp_path, 7)
    (folder / "controlnet").mkdir()
    ended = call("score", folder, "--config", tmp_path / "config.json")
    assert ended.exit_code == 1
    assert "ControlNet" in ended.output
    assert ended.output.count("\n") == 1
    above = call("score", tmp_path, "--config", tmp_path / "config.json")
    assert above.exit_code == 1
    assert above.output.endswith(f": name one of the checkpoints in it, as {folder}\n")


def test_score_prints_the_notes_that_start_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is not read, and a size that cannot be meant; on stderr, beside the JSON."""
    config = tmp_path / "config.json"
    keys = {"output_dir": "o", "model_family": "sdxl", "validation_g": 5, "validation_prompt": "x"}
    own = {"evaluation_type": "clip", "device": "cpu"}
    config.write_text(json.dumps({**keys, "clipwatch": own}))
    monkeypatch.setattr("clipwatch.executors.named.LocalExecutor", scripted)
    scored = call("score", checkpoint(tmp_path, 7), "--config", config, "--json")
    assert scored.exit_code == 0
    assert json.loads(scored.stdout)["step"] == 7
    notes = [line for line in scored.stderr.splitlines() if line.startswith("Note: ")]
    started = call("start", "--config", config, "--print-settings")
    assert notes == started.stderr.splitlines()
    assert notes[0].endswith("not read: validation_g")
    assert "validation_resolution: 256x256 is small for sdxl" in notes[1]


def test_score_tells_that_a_lora_is_no_lycoris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, once; the result is as ever."""
    (tmp_path / "base").mkdir()
    config = tmp_path / "config.json"
    own = {"lora_type": "lycoris", "validation_lycoris_strength": 0.5, "device": "cpu"}
    places = {"output_dir": "o", "pretrained_model_name_or_path": "./base"}
    config.write_text(json.dumps({**places, "validation_prompt": "a hut", "clipwatch": own}))
    monkeypatch.setattr("clipwatch.executors.named.LocalExecutor", scripted)
    ended = call("score", checkpoint(tmp_path, 7), "--config", config, "--json")
    assert ended.exit_code == 0
    assert ended.stderr.count("it acts at validation_lycoris_strength 0.5, not at") == 1
    assert json.loads(ended.stdout)["step"] == 7
