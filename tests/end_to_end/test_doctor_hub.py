"""What the doctor says of models on the Hub: in the cache, to be had, or out of reach."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipwatch.kit.hub import unreachable
from hub_kit import TOKEN, Hub, serve
from offline_kit import clipwatch, configure, environment, findings, snapshot, use_hub, write_hub


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
def test_models_that_can_be_fetched(project: Path, hub: Hub, home: Path) -> None:
    """Models that are not here are well if the Hub would give them; none of them is downloaded."""
    use_hub(project)
    found = findings(cwd=project, env=environment(home, HF_ENDPOINT=hub.url))
    for check in ("base model", "scorer"):
        assert found[check]["verdict"] == "ok", found[check]
        assert found[check]["found"].endswith(f"can be fetched from {hub.url}")
    assert not hub.downloads()
    assert list(snapshot(home)) == [str(home)]


@pytest.mark.thorough
def test_models_in_the_cache(project: Path, hub: Hub, home: Path) -> None:
    """What was fetched is found whole, the scorer in the bot's pull request, and nobody is asked.

    A weight file that is cut short afterwards is noticed.
    """
    use_hub(project)
    assert (
        clipwatch("fetch", cwd=project, env=environment(home, HF_ENDPOINT=hub.url)).returncode == 0
    )
    hub.asked.clear()
    env = environment(home, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    found = findings(cwd=project, env=env)
    for check in ("base model", "scorer"):
        assert found[check]["verdict"] == "ok", found[check]
        assert f"in the cache, {home / 'hf' / 'hub'}" in found[check]["found"]
    assert hub.asked == []
    (weights,) = (home / "hf").rglob("vae/*.safetensors")
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    spoilt = findings(cwd=project, env=env)["base model"]
    assert spoilt["verdict"] == "fail"
    assert "is not whole" in spoilt["found"]
    assert "clipwatch fetch" in spoilt["fix"]


@pytest.mark.thorough
def test_models_that_cannot_be_fetched(project: Path, hub: Hub, home: Path) -> None:
    """A gated model fails with what to do, and is well with a token; an unknown one fails."""
    configure(project, pretrained_model_name_or_path="org/base", report_to="none")
    hub.gated = frozenset({"org/base"})
    env = environment(home, HF_ENDPOINT=hub.url)
    gated = findings(cwd=project, env=env)["base model"]
    assert (gated["verdict"], gated["found"]) == ("fail", "org/base: it is gated")
    assert "HF_TOKEN" in gated["fix"]
    assert findings(cwd=project, env={**env, "HF_TOKEN": TOKEN})["base model"]["verdict"] == "ok"
    configure(project, pretrained_model_name_or_path="org/none")
    assert "no such model" in findings(cwd=project, env=env)["base model"]["found"]


@pytest.mark.thorough
def test_a_hub_that_never_answers(project: Path, home: Path) -> None:
    """A server that takes the connection and is silent is told, without the login to it."""
    configure(project, pretrained_model_name_or_path="org/base", report_to="none")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://me:s3cret@127.0.0.1:{silent.getsockname()[1]}"
        found = findings(cwd=project, env=environment(home, HF_ENDPOINT=address))
    assert found["base model"]["verdict"] == "fail"
    assert "answer" in found["base model"]["found"]
    assert found["versions"]["verdict"] == "ok"
    assert "s3cret" not in str(found)


def test_a_hub_that_cannot_be_asked_keeps_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw, as an address that is none, is told without who logs in."""
    from huggingface_hub import constants

    address = "http://me:s3cret@hub.example:x"

    def unforeseen(*_: object, **__: object) -> None:
        raise ValueError(f"{address}/org/base is no address")

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unforeseen)
    told = unreachable("org/base", "config.json", "")
    assert told is not None
    assert "cannot be asked" in told.what
    assert "s3cret" not in told.what
