"""What looks like a secret stands in no error, on no screen and in no log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.cli import main
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.secrets import masked
from clipwatch.settings import KEYS, load

LEAST = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl", "seed": 7}
SECRET = "s3cr3t"
SECRET_NAMES = ["api_key", "apikey", "API-KEY", "hub_token", "secret", "password", "passwd"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


def told(folder: Path, config: dict[str, Any], environ: dict[str, str] | None = None) -> str:
    """Return all that is said about such a configuration: its refusal, or its settings as told."""
    (folder / "config.json").write_text(json.dumps(LEAST | config))
    try:
        loaded = load(folder, environ=environ or {}, cwd=folder)
    except SettingsError as error:
        return str(error)
    return f"{loaded.as_text()} {loaded.origins} {loaded.remarks} {loaded!r}"


@given(
    name=st.sampled_from(SECRET_NAMES) | st.text().map(lambda text: f"{text}_token"),
    shape=st.sampled_from(
        [
            SECRET,
            f" {SECRET}\n",
            f"{SECRET}\0",
            f"{SECRET}\ud800",
            SECRET + "x" * 10_000,
            [SECRET],
            [[SECRET], 1],
            {"value": SECRET},
            {SECRET: 1},
            {"deep": [{"api_key": SECRET}]},
        ]
    ),
    place=st.sampled_from(
        ["option", "dotted", "object", "trainer", "tracker", "variable", "dotted variable"]
    ),
)
def test_by_the_name_of_its_key(folder: Path, name: str, shape: Any, place: str) -> None:
    """A key that looks like a secret keeps its value to itself, wherever and whatever it is."""
    config: dict[str, Any] = {
        "option": {"clipwatch": {"wandb": {name: shape}}},
        "dotted": {"clipwatch": {f"wandb.{name}": shape}},
        "object": {"clipwatch": {name: shape}},
        "trainer": {name: shape},
        "tracker": {"clipwatch": {"wandb": [{name: shape}]}},
    }.get(place, {})
    environ = {
        "variable": {"CLIPWATCH_WANDB": json.dumps({name: shape})},
        "dotted variable": {f"CLIPWATCH_WANDB.{name.upper()}": str(shape)},
    }.get(place, {})
    assert SECRET not in told(folder, config, environ)


@given(
    key=st.sampled_from([*sorted(KEYS), "wandb.entity"]),
    around=st.sampled_from(["{}", "/a/{}/b", "{},tensorboard"]),
)
def test_by_the_name_of_its_variable(folder: Path, key: str, around: str) -> None:
    """A variable that looks like a secret is not shown at any key, fitting or not."""
    value = around.format("{env:HF_TOKEN}")
    said = told(folder, {"clipwatch": {key: value}}, {"HF_TOKEN": SECRET})
    assert SECRET not in said
    assert ("is shown and logged" in said) == (key in KEYS and not KEYS[key].secret)
    misspelt = told(folder, {"clipwatch": {"bach_size": value}}, {"HF_TOKEN": SECRET})
    assert "bach_size: is not a setting of clipwatch: did you mean" in misspelt


@given(name=st.sampled_from(SECRET_NAMES), value=st.text())
def test_in_variables_of_ours(folder: Path, name: str, value: str) -> None:
    """A CLIPWATCH_ variable that is no setting is named without its value."""
    said = told(folder, {}, {f"CLIPWATCH_{name.upper()}": f"{SECRET}{value}"})
    assert "is not a setting of clipwatch" in said
    assert SECRET not in said
    assert SECRET not in told(folder, {}, {"CLIPWATCH_WANDB": f'{{"api_key": "{SECRET}{value}"'})


ADDRESSES = [
    "https://me:{}@host/path",
    "https://{}@host",
    "HTTP://me:{}@host:8080/?q=@",
    "https://me:{}/with/slashes@host",
    "https://me:{} with blanks@host",
    "https://me:a@{}@host",
    "socks5:/{}@host",
]


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("address", ADDRESSES)
def test_in_addresses(tmp_path: Path, address: str) -> None:
    """Who logs in, and with which password, is left out of an address at any key."""
    for key in ("wandb.base_url", *KEYS):
        (tmp_path / "clipwatch.json").write_text(json.dumps({key: address.format(SECRET)}))
        assert SECRET not in told(tmp_path, {}).partition("Settings(")[0]


@given(before=st.text("ab:/@. \n"), secret=st.text("ab:/@ ", min_size=1), host=st.text("ab:/."))
def test_nothing_is_left_of_a_login(before: str, secret: str, host: str) -> None:
    """Between the first scheme and the last @ nothing stays; the host does."""
    shown = masked(f"{before}https://{secret}@{host}")
    assert shown.endswith(f"://(hidden)@{host}")
    assert len(shown) <= len(before) + len(f"https://(hidden)@{host}")


@pytest.mark.parametrize("text", ["a/b@c", "me@host", "https://host/path", "", "a: b/c @ d"])
def test_what_is_no_login_stays(text: str) -> None:
    """A text without an address, or an address without a login, is shown as it is."""
    assert masked(text) == text


def test_secrets_are_used(tmp_path: Path) -> None:
    """What is not shown reaches the tracker all the same, and a variable is replaced once."""
    wandb = {"api_key": "{env:A}", "base_url": "https://me:{env:B}@host"}
    (tmp_path / "config.json").write_text(json.dumps(LEAST | {"clipwatch": {"wandb": wandb}}))
    environ = {"A": "k{env:B}", "B": SECRET}
    loaded = load(tmp_path, environ=environ, cwd=tmp_path)
    assert loaded.options == {
        "wandb": {"api_key": "k{env:B}", "base_url": f"https://me:{SECRET}@host"}
    }
    assert loaded.as_text()["wandb.api_key"] == "(hidden)"
    assert loaded.as_text()["wandb.base_url"] == "https://(hidden)@host"


@pytest.mark.parametrize("broken", [False, True])
def test_print_settings_shows_none(tmp_path: Path, broken: bool) -> None:
    """The command prints neither key nor password, of settings that are right or wrong."""
    wandb = {"api_key": SECRET, "base_url": f"https://me:{SECRET}@host"}
    model = {"pretrained_model_name_or_path": f"https://me:{SECRET}@host/a"} if broken else {}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LEAST | {"clipwatch": {"wandb": wandb | {"x": 1}}} | model))
    ended = CliRunner().invoke(main, ["start", "--print-settings", "--config", str(file)])
    assert ended.exit_code == (2 if broken else 0)
    assert SECRET not in ended.output
    assert ("https://(hidden)@host" in ended.output) or broken
