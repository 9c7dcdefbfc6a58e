"""Written values become typed ones by the trainer's rules."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.settings import readers
from clipwatch.settings.settings import KEYS
from clipwatch.settings.values import Ends, Size, text, texts


@given(st.integers(-1, 10**9))
def test_whole_numbers_survive_as_strings(number: int) -> None:
    """A number and its text are the same setting, and so is a float without a fraction."""
    read = readers.whole(-1)
    assert read(number) == read(str(number)) == read(f" {number} ") == number
    assert read(7.0) == 7


@given(st.floats(0, 10**9))
def test_numbers_survive_as_strings(number: float) -> None:
    """A float and its text are the same setting; 0.0 is a value."""
    read = readers.real(0)
    assert read(number) == read(str(number)) == number
    assert math.copysign(1, read(-0.0)) == 1


@given(st.booleans())
def test_booleans_survive_as_strings(value: bool) -> None:
    """A boolean may be a word or a digit."""
    assert readers.flag(value) is value
    assert readers.flag(str(value)) is value
    assert readers.flag(int(value)) is value


@given(st.integers(128, 8192), st.integers(16, 8192))
def test_sizes_are_rounded_to_sixteen(width: int, height: int) -> None:
    """A size is the nearest multiple of 16, whichever way it is written."""
    (size,) = readers.sizes(f"{width}x{height}")
    assert (size.width % 16, size.height % 16) == (0, 0)
    assert abs(size.width - width) <= 8
    assert abs(size.height - height) <= 8
    assert readers.sizes(width) == readers.sizes(str(width)) == (Size(size.width, size.width),)
    assert readers.sizes(f"{width}x{height}, {width}")[0] == size
    assert readers.sizes(str(size)) == (size,)


@pytest.mark.parametrize(
    ("written", "expected"),
    [(1, 1024), ("1.0", 1024), (1.5, 1024), (2, 2000), ("4", 4000), ("64x64", 64), (1000, 992)],
)
def test_small_numbers_are_megapixels(written: object, expected: int) -> None:
    """A single number below 128 counts megapixels as for the trainer; 64x64 does not."""
    assert readers.sizes(written) == (Size(expected, expected),)


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", True, None, [], {}, "", "1,5", -0.1])
def test_what_is_no_number_is_refused(number: object) -> None:
    """Only finite numbers of at least the minimum are numbers."""
    with pytest.raises(ValueError, match="must be a number of at least 0"):
        readers.real(0)(number)


@pytest.mark.parametrize("number", [0, 1.5, "1.0", "x", True, None, [1], float("inf")])
def test_what_is_no_whole_number_is_refused(number: object) -> None:
    """A truth value, a fraction and a number that is too small are no whole numbers."""
    with pytest.raises(ValueError, match="must be a whole number of at least 1, not"):
        readers.whole(1)(number)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("use_ema", "maybe", 'must be true or false, not "maybe"'),
        ("device", "gpu", 'must be auto, cpu, cuda, cuda:N, GPU-UUID, MIG-UUID or mps, not "gpu"'),
        ("device", "cuda:", "must be auto"),
        ("device", "GPU-", "must be auto"),
        ("health_address", "9464", 'must be like 127.0.0.1:9464, or off, not "9464"'),
        ("health_address", "::1:9464", "must be like 127.0.0.1:9464, or off"),
        ("health_address", "127.0.0.1:65536", "must be like 127.0.0.1:9464, or off"),
        ("exit_when_done", "soon", "must be export, file:NAME or idle:SECONDS, or a comma list"),
        ("exit_when_done", "file:", "must be export, file:NAME or idle:SECONDS, or a comma list"),
        ("exit_when_done", "export,idle:0", 'must be a number above 0.0, not "0"'),
        ("watch", "often", 'must be auto, events or poll, not "often"'),
        ("evaluation_type", "fid", 'must be clip or none, not "fid"'),
        ("evaluation_type", "CLIP", "must be clip or none"),
        ("attention", "a b", "must be native or the name of a diffusers attention backend"),
        ("rescan_seconds", 0, "must be a number of at least 0.1, not 0"),
        ("rescan_seconds", 1e-9, "must be a number of at least 0.1, not 1e-09"),
        ("rescan_seconds", math.nan, "must be a number of at least 0.1, not NaN"),
        ("stall_seconds", 1e-9, "must be a number of at least 1, not 1e-09"),
        ("settle_seconds", math.inf, "must be a number of at least 0"),
        ("keep_images", -2, "must be a whole number of at least -1, not -2"),
        ("keep_images", "some", 'must be a whole number of at least -1, not "some"'),
        ("keep_images_gb", 0, "must be a number above 0, not 0"),
        ("image_format", "jpeg", 'must be png or webp, not "jpeg"'),
        ("validation_noise_scheduler", "perflow", "perflow is not supported: choose one of ddim"),
        ("validation_noise_scheduler", "heun", "or pipeline, not"),
        ("validation_prompt_library", "music", "names sounds, and CLIP scores images"),
        ("validation_prompt_library", "mine", "must be true, false or image"),
        ("validation_resolution", "64", "and is read as 64000x64000 pixels: write it as WIDTHx"),
        ("validation_resolution", "0.5", "must be between 16 and 8192 pixels a side"),
        ("validation_resolution", "15x64", "must be between 16 and 8192 pixels a side"),
        ("validation_resolution", "wide", "must be like 512 or 1024x768"),
        ("validation_prompt", ["a"], "must be a text, not a list"),
        ("validation_prompt", {"a": 1}, "must be a text, not an object"),
        ("validation_prompt", "a\0b", r"has the control character '\x00': remove it"),
        ("output_dir", "\x1b[2J", r"has the control character '\x1b': remove it"),
        ("validation_prompt", "\ud800", "has half of a surrogate pair"),
        ("validation_prompt", "\u200b\u2060", "has no character that can be seen"),
        ("tracker_run_name", "x" * 10_001, "has 10001 characters, more than 10000: shorten it"),
        ("batch_size", 10**9 + 1, "must be a whole number of at most 1000000000, not 1000000001"),
        ("seed", 2**63, "must be a whole number of at most 9223372036854775807, not"),
        ("seed", "9" * 5000, "must be a whole number of at least -1, not"),
        ("rescan_seconds", 1e10, "must be a number of at most 1000000000, not 10000000000.0"),
        ("validation_resolution", "9" * 5000, "must be like 512 or 1024x768"),
        ("device", "cuda:\u0663", "must be auto, cpu, cuda, cuda:N, GPU-UUID, MIG-UUID or mps"),
    ],
)
def test_a_wrong_value_is_said_with_what_is_right(name: str, value: Any, text: str) -> None:
    """The message of a reader says what the value must be."""
    with pytest.raises(ValueError, match=re.escape(text)):
        KEYS[name].read(value)


@pytest.mark.parametrize(
    ("written", "number"), [("all", -1), (-1, -1), ("none", 0), ("0", 0), ("20", 20)]
)
def test_all_and_none_are_numbers_of_evaluations(written: object, number: int) -> None:
    """The log has a number, whichever was written."""
    assert readers.keep_images(written) == number


@pytest.mark.parametrize("text", ["127.0.0.1:9464", "[::1]:0", "localhost:65535"])
def test_an_address_is_read_as_it_is_written(text: str) -> None:
    """Host and port are told apart, IPv6 too; off and nothing are none."""
    assert str(readers.address(text)) == text
    assert readers.address("off") is readers.address("") is None


def test_what_ends_a_run_is_a_list() -> None:
    """Each of the three, or several; a file's name may have a colon."""
    everything = readers.ends("idle:90, export ,file:done:now")
    assert everything == Ends(export=True, file="done:now", idle_seconds=90)
    assert readers.ends(str(everything)) == everything
    assert readers.ends("") is None


def test_defaults_are_read_as_themselves() -> None:
    """Every default that does not depend on other keys is a value that its own reader accepts."""
    for key in KEYS.values():
        if key.default is not None and (key.default != "" or key.blank):
            assert key.read(text(key.default)) == key.default, key.name


def test_tracker_names_come_in_any_form() -> None:
    """One name, a comma list and a JSON list name the same trackers."""
    expected = ("wandb", "tensorboard")
    assert readers.tracker_names("wandb, TensorBoard,,wandb") == expected
    assert readers.tracker_names(["wandb", "tensorboard"]) == expected
    assert readers.tracker_names("none") == ("none",)


@given(st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_names_with_commas_are_read_back_as_they_were(names: list[str]) -> None:
    """Where they stand as one text, as in the log."""
    names = [it for it in names if not it.startswith("[")]
    assert texts(text(tuple(names))) == tuple(names)


def test_names_without_commas_stand_as_ever() -> None:
    """Also those that look like a list and are none."""
    assert text(("[a", "b")) == "[a,b"
    assert texts("[a,b") == ("[a", "b")
    assert texts(text(("[1,2]", "b"))) == ("[1,2]", "b")


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://10.0.0.7:10001", "[::1]:6379"])
def test_addresses_of_ray_clusters_are_read(address: str) -> None:
    """As Ray writes them; a port belongs to each."""
    assert readers.ray(address) == address


@pytest.mark.parametrize("address", ["local", "head", "http://head:6379", ""])
def test_no_cluster_is_started_by_an_address(address: str) -> None:
    """Ray would start one for "local"."""
    with pytest.raises(ValueError, match="must be auto, HOST:PORT"):
        readers.ray(address)
