"""`clipwatch fetch` brings the models ahead, with the real client and a Hub on loopback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer

import pytest

from clipwatch.demo.models import CLIP
from clipwatch.kit.hub import bytes_told
from hub_kit import TOKEN, Hub, serve
from offline_kit import clipwatch, configure, environment, snapshot, use_hub, write_hub
from real_world import guarded


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Hub]:
    """A Hub with the tiny models."""
    with serve(write_hub(tmp_path_factory.mktemp("hub"), base)) as hub:
        yield hub


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with nothing in its caches."""
    return tmp_path_factory.mktemp("home")


@pytest.mark.thorough
def test_fetched_ahead_a_run_needs_no_network(
    project: Path, base: Path, hub: Hub, home: Path
) -> None:
    """After a fetch, `score` and `start --once` work offline, and the Hub is asked for nothing."""
    use_hub(project)
    checkpoint = guarded(project / "output", base, 10)
    with_hub = environment(home, HF_ENDPOINT=hub.url)
    fetched = clipwatch("fetch", cwd=project, env=with_hub)
    assert fetched.returncode == 0, fetched.stderr
    assert not errors(fetched)
    lines = fetched.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["base", "scorer", "prompts", "From"]
    assert "MB downloaded)" in lines[0]
    assert "MB downloaded)" in lines[1]
    assert lines[-1].endswith("HF_HUB_OFFLINE=1 clipwatch start --config config.json")
    hub.asked.clear()
    offline = environment(home, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    scored = clipwatch("score", checkpoint, "--json", cwd=project, env=offline)
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["clip"]["n"] == 8
    configure(project, report_to="tensorboard")
    started = clipwatch("start", "--once", cwd=project, env=offline)
    assert started.returncode == 0, started.stderr
    assert "1 checkpoint: 1 published" in started.stderr
    assert hub.asked == []


def test_bytes_are_told(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A download tells how far it is; nothing is drawn, and bars are as before afterwards."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    monkeypatch.setattr("clipwatch.kit.hub.TOLD_SECONDS", 0.0)
    before = tqdm.__init__, tqdm.display
    told: list[tuple[int, int]] = []
    with bytes_told(lambda done, total: told.append((done, total))):
        snapshot_download("org/base", endpoint=hub.url, cache_dir=tmp_path)
    folder = hub.repositories["org/base"]["main"]
    size = sum(it.stat().st_size for it in folder.rglob("*") if it.is_file())
    assert max(total for _, total in told) == size
    assert (size, size) in told
    assert all(0 <= done <= total for done, total in told)
    assert capfd.readouterr() == ("", "")
    assert (tqdm.__init__, tqdm.display) == before


@pytest.mark.thorough
def test_only_safetensors_and_each_file_once(project: Path, hub: Hub, home: Path) -> None:
    """No pickle and no file of another framework is asked for, and a second call downloads none."""
    use_hub(project)
    env = environment(home, HF_ENDPOINT=hub.url)
    assert clipwatch("fetch", cwd=project, env=env).returncode == 0
    sent = hub.downloads()
    assert "unet/diffusion_pytorch_model.safetensors" in sent
    assert "model.safetensors" in sent
    assert not [name for name in sent if name.endswith((".bin", ".msgpack"))]
    hub.asked.clear()
    again = clipwatch("fetch", cwd=project, env=env)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("was here already") == 2
    assert not [name for name in hub.downloads() if name.endswith(".safetensors")]


@pytest.mark.thorough
def test_cut_off_download_goes_on(project: Path, hub: Hub, home: Path) -> None:
    """A connection that breaks in the middle of the weights costs no error and no second half."""
    use_hub(project)
    hub.cut.update({"model.safetensors", "unet/diffusion_pytorch_model.safetensors"})
    env = environment(home, HF_ENDPOINT=hub.url)
    clipwatch("fetch", cwd=project, env=env)
    assert hub.cut == set()
    done = clipwatch("fetch", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    offline = environment(home, HF_HUB_OFFLINE="1")
    found = clipwatch("doctor", cwd=project, env=offline).stdout
    assert "ok    base model" in found
    assert "ok    scorer" in found


@pytest.mark.thorough
def test_killed_fetch_leaves_what_the_next_one_needs(project: Path, hub: Hub, home: Path) -> None:
    """Killed with the weights half sent, it leaves an incomplete cache that is told as such."""
    use_hub(project)
    waiting, go = threading.Event(), threading.Event()
    big = hub.repositories["org/base"]["main"] / "vae" / "diffusion_pytorch_model.safetensors"

    class Hold(type(hub.asked)):  # type: ignore[misc]  # the list that every request goes into
        def append(self, item: tuple[str, str]) -> None:
            super().append(item)
            if item[0] == "GET" and item[1].endswith(f"vae/{big.name}"):
                waiting.set()
                go.wait(30)

    hub.asked = Hold()
    env = environment(home, HF_ENDPOINT=hub.url)
    child = subprocess.Popen(
        [sys.executable, "-m", "clipwatch", "fetch"],
        cwd=project,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert waiting.wait(60)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        go.set()
    offline = environment(home, HF_HUB_OFFLINE="1")
    found = clipwatch("doctor", cwd=project, env=offline)
    assert found.returncode == 1
    assert "fail  base model" in found.stdout
    assert "clipwatch fetch" in found.stdout
    hub.asked = []
    again = clipwatch("fetch", cwd=project, env=env)
    assert again.returncode == 0, again.stderr


@pytest.mark.thorough
def test_local_models_need_no_fetch(project: Path, home: Path) -> None:
    """Folders are told as local, also where downloads are forbidden; nothing is written."""
    before = snapshot(project)
    done = clipwatch("fetch", cwd=project, env=environment(home, HF_HUB_OFFLINE="1"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" is local (") == 2
    assert snapshot(project) == before
    assert not (home / "hf" / "hub").exists()


def test_forbidden_downloads(project: Path, home: Path) -> None:
    """With HF_HUB_OFFLINE there is one line that names the models, and exit code 2."""
    use_hub(project)
    done = clipwatch("fetch", cwd=project, env=environment(home, HF_HUB_OFFLINE="1"))
    assert done.returncode == 2
    assert done.stderr == (
        "Error: HF_HUB_OFFLINE is set, so org/base and org/clip cannot be fetched: unset it for "
        "this command, and call it where there is a network\n"
    )


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what went wrong; a slow machine hears of the progress, too."""
    return [line for line in done.stderr.splitlines() if " models: " not in line]


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of a failed call."""
    assert done.returncode == 1, done.stdout
    (line,) = errors(done)
    return line


@pytest.mark.thorough
def test_gated_model(project: Path, hub: Hub, home: Path) -> None:
    """A gated model is told with what to do; with the token it is fetched, and no text holds it."""
    configure(project, pretrained_model_name_or_path="org/base")
    hub.gated = frozenset({"org/base"})
    env = environment(home, HF_ENDPOINT=hub.url)
    line = one_line(clipwatch("fetch", cwd=project, env=env))
    assert line == (
        f"Error: base model 'org/base' cannot be fetched: it is gated: accept its terms on "
        f"its page at {hub.url}, and set HF_TOKEN to a token of that account"
    )
    done = clipwatch("fetch", cwd=project, env={**env, "HF_TOKEN": TOKEN})
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pretrained_model_name_or_path": "org/none"}, "has no such model, or a private one"),
        (
            {"pretrained_model_name_or_path": "bass"},
            "cannot be fetched (no folder of that name is here or beside the config): it is no",
        ),
        (
            {"pretrained_model_name_or_path": "org/base", "revision": "v9"},
            "it has no such revision: correct revision",
        ),
        ({"pretrained_model_name_or_path": "org/clip"}, "base model 'org/clip' cannot be fetched"),
        (
            {"pretrained_evaluation_model_name_or_path": "org/base"},
            "scorer 'org/base'",
        ),
    ],
)
@pytest.mark.thorough
def test_models_that_are_not_there(
    project: Path, hub: Hub, home: Path, changes: dict[str, str], told: str
) -> None:
    """A wrong name, revision or kind of model is one line, and the other model is fetched."""
    configure(project, **changes)
    done = clipwatch("fetch", cwd=project, env=environment(home, HF_ENDPOINT=hub.url))
    assert told in one_line(done)
    assert done.stdout.count(" is local (") == 1


class Silent(BaseRequestHandler):
    """Takes a connection and closes it without a word."""

    def handle(self) -> None:
        """Say nothing."""


@pytest.mark.thorough
def test_hub_out_of_reach(project: Path, home: Path) -> None:
    """With nobody at HF_ENDPOINT there is one line that names it."""
    configure(project, pretrained_model_name_or_path="org/base")
    with TCPServer(("127.0.0.1", 0), Silent) as free:
        address = f"http://127.0.0.1:{free.server_address[1]}"
    line = one_line(clipwatch("fetch", cwd=project, env=environment(home, HF_ENDPOINT=address)))
    assert f"{address} does not answer" in line


@pytest.mark.thorough
def test_full_disk(project: Path, hub: Hub, home: Path, tiny_disk: Path) -> None:
    """A cache without space for the weights is one line that says which disk."""
    use_hub(project)
    env = environment(home, HF_ENDPOINT=hub.url, HF_HOME=str(tiny_disk))
    done = clipwatch("fetch", cwd=project, env=env)
    assert done.returncode == 1
    first = errors(done)[0]
    assert f"there is no space left in {tiny_disk}/hub: set HF_HOME to a larger disk" in first


@pytest.fixture
def tiny_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 1 MiB (root only)."""
    folder = tmp_path_factory.mktemp("tiny")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.thorough
def test_further_scorers_are_fetched_too(project: Path, hub: Hub, home: Path) -> None:
    """Each is named in a line of its own; a local one is here already."""
    use_hub(project)
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"]["scorers"] = {"second": str(CLIP)}
    (project / "config.json").write_text(json.dumps(config))
    fetched = clipwatch("fetch", cwd=project, env=environment(home, HF_ENDPOINT=hub.url))
    assert fetched.returncode == 0, fetched.stderr
    lines = [line.split()[0] for line in fetched.stdout.splitlines()]
    assert lines == ["base", "scorer", "scorer", "prompts", "From"]
    assert str(CLIP) in fetched.stdout
