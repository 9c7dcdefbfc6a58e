"""Files of trainers that are broken, hostile, or none: what is found, and never an exception."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from clipwatch.kit.errors import SettingsError
from clipwatch.prompts import read as read_prompts
from clipwatch.prompts import shared
from clipwatch.settings.trainers import found
from examples import examples
from trainer_files import put, values, weights
from trainer_runs import file

told = st.sampled_from(
    ["ss_network_module", "ss_sd_model_name", "ss_base_model_version", "ss_resolution",
     "modelspec.architecture", "modelspec.resolution", "modelspec.trigger_phrase", "software",
     "training_info", "ot_config", "ot_revision", "ss_clip_skip", "lora_adapter_metadata"]
)  # fmt: skip
odd = st.sampled_from(["{}", "[", "null", '{"name": "ai-toolkit"}'])

PLACES = (
    "config.yaml",
    "config_lora-20261127-231000.toml",
    "train.sh",
    "train.bat",
    "shape_20261127-231000.json",
    "config/2026-11-28_00-00-56.json",
    "backup/a-backup-1-0-1/onetrainer_config/args.json",
    "p_main.json",
    "20261127_10-00-00/dp.toml",
    "logs/dreambooth/1795821682.8/hparams.yml",
    "checkpoint-2/adapter_config.json",
    "model_index.json",
)
"""Where trainers keep what is read of them."""

REAL = {
    "config.yaml": ("aitk-flux", "my_first_flux_lora_v1/config.yaml"),
    "config_lora-20261127-231000.toml": ("kohya-gui", "out/config_lora-20261127-231000.toml"),
    "config/2026-11-28_00-00-56.json": (
        "onetrainer-lora-legacy_lora",
        "config/2026-11-28_00-00-56.json",
    ),
    "p_main.json": ("ed2", "logs/proj-20261127-100000/proj-20261127-100000_main.json"),
    "20261127_10-00-00/dp.toml": ("dp-flux", "20261127_10-00-00/dp.toml"),
}

words = st.sampled_from(
    ["config", "process", "sample", "prompts", "model", "name_or_path", "width", "neg", "seed",
     "sampler", "base_model_name", "model_type", "resume_ckpt", "resolution", "sample_prompts",
     "network_module", "output_name", "output_dir", "pretrained_model_name_or_path", "type",
     "_name_or_path", "clip_skip", "cfgs", "samples", "guidance_scale", "sample_sampler",
     "validation_scheduler", "dit"]
)  # fmt: skip
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["a/b", "/x/y.safetensors", "..", "/", "flux", "prompts.txt", "\0", "~", "C:\\x"]
    ),
)
nested = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=6),
    max_leaves=20,
)


def looked(folder: Path) -> None:
    """Look for settings: each value is one that its key takes, each remark is one line."""
    told = found(folder)
    assert values(told).keys() == {name for name, _ in told.keys}
    assert all(remark and "\n" not in remark for remark in told.remarks)


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), content=st.binary(max_size=200))
def test_any_bytes_are_a_remark_at_most(place: str, content: bytes, tmp_path: Path) -> None:
    """Whatever lies under the name of a trainer's file."""
    put(tmp_path, place, content)
    try:
        looked(tmp_path)
    finally:
        (tmp_path / place).unlink()


@examples(500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), content=st.dictionaries(words, nested, max_size=8))
def test_any_shape_is_a_remark_at_most(
    place: str, content: dict[str, object], tmp_path: Path
) -> None:
    """JSON, which YAML is too, with the trainers' own words at other places."""
    put(tmp_path, place, content)
    try:
        looked(tmp_path)
    finally:
        (tmp_path / place).unlink()


members = st.dictionaries(words, nested, max_size=6)
SHAPED: dict[str, st.SearchStrategy[dict[str, object]]] = {
    "config.yaml": st.builds(
        lambda model, sample, job: {
            "config": {"process": [{"model": model, "sample": sample, **job}]}
        },
        members.map(lambda it: it | {"is_xl": True}),
        members,
        st.dictionaries(st.just("trigger_word"), plain),
    ),
    "config/2026-11-28_00-00-56.json": members.map(
        lambda it: it | {"base_model_name": "x/y.ckpt", "model_type": "STABLE_DIFFUSION_15"}
    ),
    "p_main.json": members.map(lambda it: it | {"resume_ckpt": "x/y.ckpt"}),
    "shape_20261127-231000.json": members.map(
        lambda it: it | {"dit": "x/y.ckpt", "network_dim": 4, "save_model_as": "safetensors"}
    ),
    "logs/dreambooth/1795821682.8/hparams.yml": members.map(
        lambda it: it | {"pretrained_model_name_or_path": "x/y"}
    ),
}
"""A place → what its trainer is known by, with whatever else."""


@examples(800, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(sorted(SHAPED)), data=st.data())
def test_a_trainers_file_may_hold_anything(place: str, data: st.DataObject, tmp_path: Path) -> None:
    """It is known by its shape; every value in it may be of any kind."""
    put(tmp_path, place, data.draw(SHAPED[place]))
    try:
        looked(tmp_path)
        assert found(tmp_path).trainer
    finally:
        (tmp_path / place).unlink()


def test_what_lies_deeper_in_json_is_no_option(tmp_path: Path) -> None:
    """Only the tables of TOML become one."""
    known = {"dit": "x/y.ckpt", "network_dim": 4, "save_model_as": "safetensors"}
    put(tmp_path, "shape_20261127-231000.json", known | {"process": {"dit": None}})
    assert found(tmp_path).trainer == "kohya"


@examples(500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(sorted(REAL)), data=st.data())
def test_a_damaged_file_is_a_remark_at_most(
    place: str, data: st.DataObject, tmp_path: Path
) -> None:
    """A real one, cut or with some of it replaced."""
    whole = file(*REAL[place])
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    filled = data.draw(st.sampled_from([b"", b"[[[{{{", b": - "]) | st.binary(max_size=8))
    put(tmp_path, place, whole[:start] + filled + whole[end:])
    try:
        looked(tmp_path)
    finally:
        (tmp_path / place).unlink()


@examples(400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(told, st.text(max_size=30) | odd))
def test_any_metadata_is_a_remark_at_most(metadata: dict[str, str], tmp_path: Path) -> None:
    """What a file of weights says of itself is the text of whoever made it."""
    try:
        weights(tmp_path, "a.safetensors", **metadata)
    except UnicodeEncodeError:
        return
    looked(tmp_path)


@examples(400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["a.yaml", "a.toml", "a.json", "a.txt"]),
    content=st.one_of(
        st.binary(max_size=100), st.text(max_size=100).map(lambda it: it.encode("utf-8", "replace"))
    ),
)
def test_any_prompt_file_is_read_or_refused(name: str, content: bytes, tmp_path: Path) -> None:
    """In one line, for its prompts and for what they ask for."""
    path = put(tmp_path, name, content)
    refusals = []
    for reader in (read_prompts, shared):
        try:
            reader(path)
        except SettingsError as error:
            refusals.append(str(error))
    assert not any("\n" in it for it in refusals)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["pipe", "folder", "circle", "nowhere", "device", "huge"])
def test_what_is_planted_there_does_not_hang(kind: str, place: str, tmp_path: Path) -> None:
    """Nor is it followed: a pipe would block, a device would never end."""
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as made:
            made.truncate(2**34)
    else:
        targets = {"circle": path, "nowhere": tmp_path / "no", "device": Path("/dev/zero")}
        path.symlink_to(targets[kind])
    looked(tmp_path)


def test_what_is_planted_beside_them_hides_nothing(tmp_path: Path) -> None:
    """Links in a circle and to nothing, a pipe, and names that are no UTF-8."""
    put(tmp_path, "config.yaml", file("aitk-flux", "my_first_flux_lora_v1/config.yaml"))
    expected = found(tmp_path)
    assert expected.trainer == "ai_toolkit"
    for name in ("circle", "circle.yaml"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "nowhere.json").symlink_to("none")
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / os.fsdecode(b"\xff.toml")).write_bytes(b"= \xff")
    told = found(tmp_path)
    assert (told.trainer, told.keys) == (expected.trainer, expected.keys)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50)) + "config: *b49\n",
        "a: &a {k: v}\n" + "".join(f"b{i}: &b{i}\n  <<: [*a, *a]\n" for i in range(30)),
        "b0: &b0\n  x: 1\n" + "".join(
            f"b{i}: &b{i}\n  <<: [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 30)
        ),
        "[" * 5000,
        "- " * 100_000,
        "{a: " * 40_000,
        "config: '" + "[" * 100_000 + "'\n",
        "config: &a {process: [*a]}\n",
        "config: !!python/object/apply:os.system ['false']\n",
        "config: {process: [{sample: {seed: " + "9" * 5000 + "}}]}\n",
        "config: {process: [{sample: {seed: 2001-99-99}}]}\n",
        "? [a, b]\n: c\n",
        "? {a: b}\n: c\n",
    ],
)  # fmt: skip
def test_yaml_that_would_explode_does_not(text: str, tmp_path: Path) -> None:
    """Aliases, merges, depth, tags and numbers."""
    put(tmp_path, "config.yaml", text)
    looked(tmp_path)
    with pytest.raises(SettingsError):
        read_prompts(tmp_path / "config.yaml")


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    """Nor anything else that no trainer writes for people: reading is by name."""
    for name in ("model.ckpt", "optimizer.pt", "random_states_0.pkl", "a.bin"):
        os.mkfifo(tmp_path / name)
    looked(tmp_path)
