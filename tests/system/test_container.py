"""The image and the compose file: what they say, and the image at work beside a training."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipwatch.demo import models
from clipwatch.settings import KEYS
from container_engine import Engine, engine
from container_files import (
    CONTAINER,
    DOCKERFILE,
    WORKLOADS,
    compose,
    documents,
    image_environ,
    own_settings,
    pod,
)
from real_world import clipwatch, points, until

IMAGE = "clipwatch:test"
USER = 12345
"""In no list of users: any number must do."""

HARDENED = (
    *("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *(f"--user={USER}:{USER}", "--env=OMP_NUM_THREADS=1"),
)


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile keeps the rules of good Dockerfiles."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_s_settings_are_real() -> None:
    """Each CLIPWATCH_ variable of image and compose file is a key; the ports are the same."""
    environ = image_environ()
    assert set(own_settings(environ)) == {"state_dir", "health_address"}
    assert set(own_settings(compose()["clipwatch"]["environment"])) <= set(KEYS)
    exposed = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert [environ["CLIPWATCH_HEALTH_ADDRESS"]] == [f"0.0.0.0:{port}" for port in exposed]


def test_the_compose_file_keeps_them_apart() -> None:
    """Same user and folder, but clipwatch only reads it, has another GPU, and time to drain."""
    train, ours = compose()["train"], compose()["clipwatch"]
    assert train["user"] == ours["user"]
    (output,) = train["volumes"]
    folder, target = re.findall(r"^(\$\{\w+).*:(/.*)$", output)[0]
    config, state = (image_environ()[f"CLIPWATCH_{name}"] for name in ("CONFIG", "STATE_DIR"))
    assert f"{folder}}}:{target}:ro" in ours["volumes"]
    assert any(one.endswith(f":{config}:ro") for one in ours["volumes"])
    assert [one for one in ours["volumes"] if not one.endswith(":ro")] == [f"state:{state}"]
    assert ours["read_only"] is True
    assert (ours["cap_drop"], ours["security_opt"]) == (["ALL"], ["no-new-privileges"])
    gpus = [
        service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for service in (train, ours)
    ]
    assert set(gpus[0]).isdisjoint(gpus[1])
    drain = float(ours["environment"]["CLIPWATCH_DRAIN_SECONDS"])
    assert 0 < drain < float(ours["stop_grace_period"].removesuffix("s"))
    (document,) = documents(CONTAINER / "compose.yaml")
    (secret,) = document["secrets"]
    assert ours["secrets"] == [secret]
    assert ours["environment"]["WANDB_API_KEY_FILE"] == f"/run/secrets/{secret}"


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine, or skip."""
    folder = tmp_path / "engine"
    folder.mkdir()
    with engine(folder) as made:
        yield made


@pytest.fixture
def shared(tmp_path: Path, base: Path) -> Path:
    """Return a folder with `output` and `config`, of the user who trains."""
    folder, inside = tmp_path / "shared", Path(image_environ()["CLIPWATCH_CONFIG"]).parent
    (folder / "output").mkdir(parents=True)
    shutil.copytree(base, folder / "config/base")
    shutil.copytree(models.CLIP, folder / "config/clip")
    (folder / "config/prompts.txt").write_text("one red circle on white\ntwo blue squares\n")
    config = {
        "output_dir": "/output",
        "pretrained_model_name_or_path": str(inside / "base"),
        "evaluation_type": "clip",
        "pretrained_evaluation_model_name_or_path": str(inside / "clip"),
        "report_to": "tensorboard",
        "tracker_project_name": "shapes",
        "user_prompt_library": str(inside / "prompts.txt"),
        "validation_resolution": "32x32",
        "validation_num_inference_steps": 2,
        "clipwatch": {"device": "cpu", "drain_seconds": 100, "baseline": False},
    }
    (folder / "config/config.json").write_text(json.dumps(config))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    return folder


@pytest.mark.timeout(900)  # the image is built, and torch is in it
def test_the_image_scores_what_another_container_trains(
    containers: Engine, shared: Path, tmp_path: Path
) -> None:
    """As in a pod: stopped when the training has ended, it scores the last checkpoint all the same.

    It starts first, is asked for its health, and cannot write where the training does.
    """
    containers.build(IMAGE, VERSION="1.2.3", SOURCE="https://example.com/clipwatch")
    _check_image(containers)
    config = f"--volume={shared}/config:/etc/clipwatch:ro"
    output = f"--volume={shared}/output:/output"
    run = ("podman", "run", "--detach", *HARDENED, config)
    containers(*run, "--name=watch", f"{output}:ro", "--volume=state:/var/lib/clipwatch", IMAGE)
    until(lambda: containers.tried("podman", "healthcheck", "run", "watch").returncode == 0)
    _check_probes(containers)
    for folder in ("/output", "/etc/clipwatch", "/opt/clipwatch"):
        refused = containers.tried("podman", "exec", "watch", "touch", f"{folder}/mine")
        assert "Read-only file system" in refused.stderr

    training = ("-m", "clipwatch.demo.train", "--base=/etc/clipwatch/base", "--project=shapes")
    steps = ("--output-dir=/output", "--steps=4", "--checkpoint-every=4")
    containers(*run, "--name=train", output, "--entrypoint=python3", IMAGE, *training, *steps)
    assert containers("podman", "wait", "train") == "0", containers("podman", "logs", "train")
    containers("podman", "stop", "--time=150", "watch")
    assert containers("podman", "wait", "watch") == "0"

    state = Path(containers("podman", "volume", "inspect", "--format={{.Mountpoint}}", "state"))
    told = clipwatch("status", "--json", "--state-dir", state, cwd=tmp_path)
    ((only,),) = [one["checkpoints"] for one in json.loads(told.stdout)["runs"]]
    assert (only["step"], only["state"]) == (4, "published")
    (board,) = state.glob("tensorboard/*/shapes/clipwatch")
    ((step, mean),) = points(board, "clip/mean")
    assert step == 4
    assert mean == pytest.approx(only["clip"]["mean"], abs=1e-6)
    assert clipwatch("log", "--verify", "--state-dir", state, cwd=tmp_path).returncode == 0


def _check_image(containers: Engine) -> None:
    """What an engine must know about the image, and what must not be in it."""
    (image,) = json.loads(containers("podman", "image", "inspect", IMAGE))
    config, labels = image["Config"], image["Config"]["Labels"]
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert (config["Entrypoint"], config["Cmd"]) == (["clipwatch"], ["start"])
    assert image["Healthcheck"]["Test"] == ["CMD", "clipwatch", "health"]
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.source"] == "https://example.com/clipwatch"


def _check_probes(containers: Engine) -> None:
    """Ask what the manifests let the kubelet ask, at all addresses of the container."""
    said = containers.tried("podman", "logs", "watch")
    assert "http://0.0.0.0:9464" in said.stdout + said.stderr
    probes = [
        probe["httpGet"]["path"]
        for made in map(pod, WORKLOADS)
        for name, probe in made.clipwatch.items()
        if name.endswith("Probe")
    ]
    paths = [*probes, pod(WORKLOADS[0]).metadata["annotations"]["prometheus.io/path"]]
    ask = "import sys, urllib.request as u; [u.urlopen(a, timeout=5) for a in sys.argv[1:]]"
    addresses = [f"http://127.0.0.1:9464{path}" for path in paths]
    containers("podman", "exec", "watch", "python3", "-c", ask, *addresses)
