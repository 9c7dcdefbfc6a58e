"""Prompts of a dataset: the real client against a Hub on loopback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import hub_kit
from hub_kit import TOKEN, Hub, commit_of
from offline_kit import clipwatch, environment


class _Datasets(hub_kit._Handler):
    """The same Hub, asked for data sets."""

    down = False

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        """Answer for `/datasets/owner/name` what it would for the model of that name."""
        if self.down:
            self.refuse(503, "Down")
            return
        self.path = self.path.replace("/api/datasets/", "/api/models/")
        self.path = self.path.replace("/datasets/", "/", 1)
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815 - the base class's name


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a Hub with a data set of several splits, and one of one table."""
    many = tmp_path / "many"
    for name, content in {
        "README.md": "x",
        "dataset_infos.json": "{}",
        "data/train.jsonl": '{"caption": "a cat", "long": "a cat on a mat"}\n',
        "data/test.jsonl": '{"caption": "a dog", "long": "a dog in the fog"}\n\n',
        "data/val-00000-of-00002.csv": "prompt\na hen\na cow\n",
        "data/val-00001-of-00002.csv": "prompt\na cow\na pig\n",
    }.items():
        (many / name).parent.mkdir(parents=True, exist_ok=True)
        (many / name).write_text(content)
    one = tmp_path / "one"
    one.mkdir()
    (one / "Parti.tsv").write_text("Prompt\tCategory\na fox\tAnimals\na bus\tVehicles\n")
    (one / "LICENSE.txt").write_text("free\n")
    monkeypatch.setattr(hub_kit, "_Handler", _Datasets)
    offered = {"org/one": {"main": one}, "org/many": {"main": many}, "org/gated": {"main": one}}
    with hub_kit.serve(Hub(offered, gated=frozenset({"org/gated"}))) as serving:
        yield serving


Done = subprocess.CompletedProcess[str]


def ask(folder: Path, name: str, hub: Hub, *more: str, **variables: str) -> Done:
    """Return what `clipwatch prompts --library NAME --json` says."""
    env = environment(folder / "home", HF_ENDPOINT=hub.url, **variables)
    return clipwatch("prompts", "--library", name, "--json", *more, cwd=folder, env=env)


def listed(done: Done) -> tuple[list[str], list[str]]:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    whole = json.loads(done.stdout)
    return [prompt["prompt"] for prompt in whole["prompts"]], whole["notes"]


@pytest.mark.thorough
def test_the_only_table_is_read_at_its_commit(tmp_path: Path, hub: Hub) -> None:
    """The note says which commit; the second time, without a network, the cache does."""
    commit = commit_of(tmp_path / "one")
    expected = ["a fox", "a bus"], [f"hf:org/one is read at commit {commit}"]
    assert listed(ask(tmp_path, "hf:org/one", hub)) == expected
    assert hub.downloads() == ["Parti.tsv"]
    asked = len(hub.asked)
    assert listed(ask(tmp_path, "hf:org/one", hub, HF_HUB_OFFLINE="1")) == expected
    assert len(hub.asked) == asked
    dead = Hub({}, url="http://127.0.0.1:9")
    assert listed(ask(tmp_path, "hf:org/one", dead)) == expected
    assert listed(ask(tmp_path, f"hf:org/one@{commit}", dead))[0] == expected[0]


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("hf:org/many/train", ["a cat"]),
        ("hf:org/many/test:long", ["a dog in the fog"]),
        ("hf:org/many/data/test.jsonl", ["a dog"]),
        ("hf:org/many/val", ["a hen", "a cow", "a pig"]),
        ("hf:org/one@main/LICENSE.txt", ["free"]),
    ],
)
def test_a_split_and_a_column_are_chosen(
    tmp_path: Path, hub: Hub, name: str, texts: list[str]
) -> None:
    """A split is a word of a file's path, or all of it; its parts are read as one."""
    found, notes = listed(ask(tmp_path, name, hub))
    assert found == texts
    folder = tmp_path / name.split("/")[1].partition("@")[0]
    assert notes[0] == f"{name} is read at commit {commit_of(folder)}"


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf:org/none", "has no such dataset, or a private one: correct its name"),
        ("hf:org/one@v2", "it has no such revision: correct the revision"),
        ("hf:org/gated", "it is gated: accept its terms"),
        ("hf:org/many/dev", "has no file for 'dev': name one behind a slash; there is data/test"),
        ("hf:org/one:title", "has no column title; the first line names Prompt, Category"),
        ("hf:org/many/test:title", 'must be a text, or an object with a text as "title"'),
    ],
)
def test_what_cannot_be_had_is_told_in_a_line(
    tmp_path: Path, hub: Hub, name: str, says: str
) -> None:
    """Exit code 2, nothing printed, one line to act on."""
    done = ask(tmp_path, name, hub)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert says in done.stderr


@pytest.mark.thorough
def test_several_files_are_offered(tmp_path: Path, hub: Hub) -> None:
    """Which one is meant is the user's to say."""
    (tmp_path / "one" / "More.tsv").write_text("prompt\nx\n")
    done = ask(tmp_path, "hf:org/one", hub)
    assert done.returncode == 2
    assert (
        "hf:org/one: has several files: name one behind a slash; there is More.tsv" in done.stderr
    )


def test_a_part_that_is_missing_is_told(tmp_path: Path, hub: Hub) -> None:
    """Half of a table is no table of fewer prompts."""
    (tmp_path / "many" / "data" / "val-00001-of-00002.csv").unlink()
    done = ask(tmp_path, "hf:org/many/val", hub)
    assert done.returncode == 2
    assert "hf:org/many/val: only 1 of 2 parts are there" in done.stderr


@pytest.mark.thorough
def test_nothing_cached_and_no_network(tmp_path: Path, hub: Hub) -> None:
    """The line says whether the Hub was not asked or did not answer."""
    done = ask(tmp_path, "hf:org/one", hub, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "HF_HUB_OFFLINE forbids to fetch it" in done.stderr
    done = ask(tmp_path, "hf:org/one", Hub({}, url="http://127.0.0.1:9"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "http://127.0.0.1:9 does not answer" in done.stderr


def test_a_hub_with_troubles(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cached is read; of what is not, the line says that the Hub is at fault."""
    expected = listed(ask(tmp_path, "hf:org/one", hub))
    monkeypatch.setattr(_Datasets, "down", True)
    assert listed(ask(tmp_path, "hf:org/one", hub)) == expected
    done = ask(tmp_path, "hf:org/many/test", hub)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "answers 503" in done.stderr


def test_a_gated_set_opens_with_a_token(tmp_path: Path, hub: Hub) -> None:
    """HF_TOKEN is the client's, as for models."""
    assert listed(ask(tmp_path, "hf:org/gated", hub, HF_TOKEN=TOKEN))[0] == ["a fox", "a bus"]


def test_a_run_names_a_set(tmp_path: Path, hub: Hub) -> None:
    """In settings the note is a remark, and a mistake names the key's line."""
    least = {"output_dir": "out", "model_family": "sdxl", "clipwatch": {"prompts": "hf:org/one"}}
    (tmp_path / "config.json").write_text(json.dumps(least))
    env = environment(tmp_path / "home", HF_ENDPOINT=hub.url)
    texts, notes = listed(clipwatch("prompts", "-c", tmp_path, "--json", cwd=tmp_path, env=env))
    assert texts == ["a fox", "a bus"]
    assert len(notes) == 1
    env["CLIPWATCH_PROMPTS"] = "hf:org/none"
    done = clipwatch("prompts", "-c", tmp_path, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "CLIPWATCH_PROMPTS: hf:org/none: " in done.stderr
