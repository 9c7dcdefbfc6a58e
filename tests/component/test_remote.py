"""Addresses as their servers answer: a bucket of S3 (moto), and the Hub's stand-in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipwatch.kit.addresses import address
from clipwatch.mirror.remote import Remote, Unreachable
from hub_kit import TOKEN, Hub
from hub_kit import serve as serve_hub
from loop_kit import states, until
from s3_kit import S3, SECRET
from s3_kit import serve as serve_s3
from world import World, checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # fsspec's connections stay


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a Hub with one repository, which has two branches, and have the client use it."""
    from huggingface_hub import HfFileSystem, constants

    checkpoint(tmp_path / "main", 10)
    checkpoint(tmp_path / "main", 20, 0.7)
    checkpoint(tmp_path / "dev/sub", 30, 0.8)
    references = {"main": tmp_path / "main", "dev": tmp_path / "dev"}
    with serve_hub(Hub({"org/run": references})) as served:
        template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        HfFileSystem.clear_instance_cache()
        yield served
        HfFileSystem.clear_instance_cache()


def test_a_bucket_is_listed_as_it_is_now(s3: S3, tmp_path: Path) -> None:
    """Names below the address, sizes, times, and a tag that changes with the content."""
    place = checkpoint(tmp_path / "out", 10)
    remote = Remote(s3.push(tmp_path / "out", "listed"))
    before = {it.path: it for it in remote.files()}
    assert set(before) == {f"checkpoint-10/{it.name}" for it in place.iterdir()}
    (place / ".guard").write_text("again\n")
    s3.push(tmp_path / "out", "listed")
    after = {it.path: it for it in remote.files()}
    changed = [path for path, it in after.items() if it.tag != before[path].tag]
    assert changed == ["checkpoint-10/.guard"]
    assert all(it.mtime and it.size for it in after.values())


def test_a_file_of_a_bucket_is_copied(s3: S3, tmp_path: Path) -> None:
    """With its content and its time."""
    place = checkpoint(tmp_path / "out", 10)
    remote = Remote(s3.push(tmp_path / "out", "copied"))
    for file in remote.files():
        remote.fetch(file, tmp_path / "here" / file.path)
        copied = tmp_path / "here" / file.path
        assert copied.read_bytes() == (place.parent / file.path).read_bytes()
        assert copied.stat().st_mtime == file.mtime


def test_what_is_gone_or_changed_is_not_copied(s3: S3, tmp_path: Path) -> None:
    """Neither half of it, nor another one."""
    checkpoint(tmp_path / "out", 10)
    remote = Remote(s3.push(tmp_path / "out", "gone"))
    file = next(it for it in remote.files() if it.path.endswith(".guard"))
    s3.client.put_object(Bucket=s3.bucket, Key=f"gone/{file.path}", Body=b"longer than before")
    with pytest.raises(Unreachable, match="was listed with"):
        remote.fetch(file, tmp_path / "a/b")
    s3.delete("gone")
    with pytest.raises(Unreachable, match="does not exist any more") as gone:
        remote.fetch(file, tmp_path / "a/c")
    assert gone.value.kind == "missing"


@pytest.mark.parametrize("place", ["s3://no-such-bucket/run", "s3://trainings/nothing"])
def test_what_is_not_there_is_missing(s3: S3, place: str) -> None:
    """A bucket as well as a folder in it."""
    assert s3.bucket == "trainings"
    with pytest.raises(Unreachable, match="does not exist") as missing:
        Remote(place).files()
    assert missing.value.kind == "missing"
    assert SECRET not in str(missing.value)


def test_names_of_a_bucket_that_are_none_of_files(s3: S3, tmp_path: Path) -> None:
    """They lead nowhere: a run of real checkpoints beside them is evaluated."""
    checkpoint(tmp_path / "out", 10)
    place = s3.push(tmp_path / "out", "odd")
    for name in ("", "/double", "checkpoint-10/../../../x.json", "checkpoint-10"):
        s3.client.put_object(Bucket=s3.bucket, Key=f"odd/{name}", Body=b"{}")
    run = World(tmp_path, output_dir=place)
    assert run.once() == 0
    assert states(run) == {10: "published"}
    assert not list(tmp_path.rglob("x.json"))


def published(run: World, step: int) -> bool:
    return states(run).get(step) == "published"


def test_a_training_that_pushes_to_a_bucket(s3: S3, tmp_path: Path) -> None:
    """Each checkpoint is evaluated as it comes, and rotation there stops nothing."""
    trained, place = tmp_path / "trained", f"s3://{s3.bucket}/pushed"
    run = World(tmp_path, output_dir=place)
    with run.live():
        for step in (10, 20, 30):
            checkpoint(trained, step, step / 100)
            s3.push(trained / f"checkpoint-{step}", f"pushed/checkpoint-{step}")
            until(partial(published, run, step))
            s3.delete(f"pushed/checkpoint-{step}")
        until(lambda: not os.listdir(run.settings.paths.output_dir))
    assert states(run) == dict.fromkeys((10, 20, 30), "published")
    assert run.run.output_dir == place
    assert SECRET not in "".join(run.said) + str(run.logged)


def test_one_checkpoint_is_copied_for_who_names_it(s3: S3, tmp_path: Path) -> None:
    """By its folder; what holds no weights, or all of them, is refused with what to name."""
    place = checkpoint(tmp_path / "out", 10)
    address = s3.push(tmp_path / "out", "alone")
    copied = Remote(f"{address}/checkpoint-10").fetch_all(tmp_path / "here")
    assert copied == tmp_path / "here/checkpoint-10"
    assert {it.name: it.read_bytes() for it in copied.iterdir()} == {
        it.name: it.read_bytes() for it in place.iterdir()
    }
    with pytest.raises(Unreachable, match=f"name one of them, as {address}/checkpoint-10$"):
        Remote(address).fetch_all(tmp_path / "all")
    s3.client.put_object(Bucket=s3.bucket, Key="texts/a.json", Body=b"{}")
    with pytest.raises(Unreachable, match="name the folder of one checkpoint"):
        Remote(f"s3://{s3.bucket}/texts").fetch_all(tmp_path / "there")


def test_the_hub_is_asked_for_what_is_named(hub: Hub, tmp_path: Path) -> None:
    """The main branch, another one, and a folder of it."""
    names = {it.path for it in Remote("hf://org/run").files()}
    assert {it.split("/")[0] for it in names} == {"checkpoint-10", "checkpoint-20"}
    for place in ("hf://org/run@dev/sub", address("hf://org/run@dev/sub/")):
        assert {it.path.split("/")[0] for it in Remote(place).files()} == {"checkpoint-30"}
    asked = {path for _, path in hub.asked}
    assert "/api/models/org/run/tree/dev/sub" in asked
    assert tmp_path.exists()


@pytest.mark.parametrize("place", ["org/none", "org/run@none", "org/run/none"])
def test_what_the_hub_has_not_is_missing(hub: Hub, place: str) -> None:
    """A repository, a branch, a folder: told with what opens a private one."""
    with pytest.raises(Unreachable, match="correct it, or set HF_TOKEN") as missing:
        Remote(f"hf://{place}").files()
    assert missing.value.kind == "missing"
    assert TOKEN not in str(missing.value)
    assert hub.asked


def test_a_gated_repository_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are listed, and not had; the text says what opens it."""
    monkeypatch.setattr(hub, "gated", frozenset({"org/run"}))
    monkeypatch.delenv("HF_TOKEN")
    remote = Remote("hf://org/run")
    with pytest.raises(Unreachable, match="set HF_TOKEN in the environment") as refused:
        remote.fetch(remote.files()[0], tmp_path / "a/b")
    assert refused.value.kind == "refused"


def test_a_training_that_pushes_to_the_hub(hub: Hub, tmp_path: Path) -> None:
    """Its commits are seen, and what was copied has the time of its commit."""
    run = World(tmp_path, output_dir="hf://org/run")
    with run.live():
        until(lambda: states(run) == {10: "published", 20: "published"})
        checkpoint(tmp_path / "main", 30, 0.9)
        until(lambda: states(run).get(30) == "published")
    stamps = {f.path: f.mtime_ns for c in run.run.checkpoints.values() for f in c.files}
    original = tmp_path / "main/checkpoint-30/pytorch_lora_weights.safetensors"
    assert int(original.stat().st_mtime) == stamps[original.name] // 10**9
    assert any(path.endswith("/tree/main") for _, path in hub.asked)


class NoCredentialsError(Exception):
    """As botocore's."""


class AnsweredError(Exception):
    """As those of requests, httpx and botocore."""

    def __init__(self, response: object) -> None:
        super().__init__("no")
        self.response = response


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("x"), "missing"),
        (PermissionError("x"), "refused"),
        (NoCredentialsError("x"), "refused"),
        (AnsweredError({"ResponseMetadata": {"HTTPStatusCode": 403}}), "refused"),
        (AnsweredError(SimpleNamespace(status_code=401)), "refused"),
        (AnsweredError(SimpleNamespace(status_code=503)), "unreachable"),
        (TimeoutError("x"), "unreachable"),
        (ConnectionError("cannot connect to https://me:s3cret@host/x"), "unreachable"),
    ],
)
def test_each_error_says_whether_it_may_pass(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    """Whichever package raises it, in one line without a key."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fsspec.core.url_to_fs", fails)
    with pytest.raises(Unreachable) as told:
        Remote("s3://bucket/run").files()
    assert told.value.kind == kind
    assert "s3cret" not in str(told.value)
    assert "\n" not in str(told.value)
