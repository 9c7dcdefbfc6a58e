"""What prompts of trainers say about their own sampling, by each trainer's rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipwatch.prompts import read, shared
from clipwatch.prompts.options import Option, of_ai_toolkit, of_kohya

IGNORED = "ignored, since all prompts are sampled in the same way: "


def written(folder: Path, name: str, content: object) -> Path:
    """Write a prompt file, JSON for what is no text."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def asked(path: Path) -> dict[str, object]:
    """Return what all prompts of a file share, by its name."""
    return {it.option.written: it.option.value for it in shared(path)}


@pytest.mark.parametrize(
    ("line", "text", "options", "ignored"),
    [
        ("a cat --w 512 --H 768", "a cat", {"width": 512, "height": 768}, ()),
        (
            "a cat --n blurry, bad --s 28",
            "a cat",
            {"negative_prompt": "blurry, bad", "steps": 28},
            (),
        ),
        ("a cat --d 1 --d 2", "a cat", {"seed": 2}, ()),
        ("a cat --d -1", "a cat", {}, ("--d",)),
        ("a cat --d abc", "a cat", {}, ("--d",)),
        ("a cat --s 5000", "a cat", {"steps": 1000}, ()),
        ("a cat --s 0", "a cat", {"steps": 1}, ()),
        ("a cat --l 7.5 --g 3.5", "a cat", {"scale": 7.5, "guidance": 3.5}, ()),
        ("a cat --l 1.2.3", "a cat", {}, ("--l",)),
        ("a cat --ss euler_a", "a cat", {"sampler": "euler_a"}, ()),
        ("a cat --ar 16:9 --fs 3", "a cat", {}, ("--ar", "--fs")),
        ("a cat -- a dog", "a cat", {}, ("--",)),
        ("a cat--w 512", "a cat--w 512", {}, ()),
        ("a (red:1.3) cat", "a (red:1.3) cat", {}, ()),
        (f"a cat --w {'9' * 5000}", "a cat", {}, ("--w",)),
    ],
)
def test_a_line_is_split_as_sd_scripts_does(
    line: str, text: str, options: dict[str, object], ignored: tuple[str, ...]
) -> None:
    """At " --", small and big letters alike, digits where it wants digits."""
    said = of_kohya(line)
    assert said.text == text
    assert {it.name: it.value for it in said.options} == options
    assert said.ignored == ignored


@pytest.mark.parametrize(
    ("prompt", "text", "options", "ignored"),
    [
        ("a cat --seed 7 --cfg 4", "a cat", {"seed": 7, "guidance": 4.0}, ()),
        ("a cat--w 512", "a cat", {"width": 512}, ()),
        ("a cat --steps 20 --m 0.5", "a cat", {"steps": 20}, ("--m",)),
        ("a cat --w wide", "a cat", {}, ("--w",)),
        ("a cat --n ugly, bad", "a cat", {"negative_prompt": "ugly, bad"}, ()),
    ],
)
def test_a_prompt_is_split_as_ai_toolkit_does(
    prompt: str, text: str, options: dict[str, object], ignored: tuple[str, ...]
) -> None:
    """At "--", with whole words for options."""
    said = of_ai_toolkit(prompt)
    assert said.text == text
    assert {it.name: it.value for it in said.options} == options
    assert said.ignored == ignored


def test_what_all_lines_share_is_no_note(tmp_path: Path) -> None:
    """It can be followed; what differs is named."""
    content = "# a comment\na cat --w 64 --h 64 --s 4 --d 1\n a dog --s 4 --d 2 --h 64 --w 64\n"
    file = written(tmp_path, "prompts.txt", content)
    assert asked(file) == {"--w": 64, "--h": 64, "--s": 4}
    assert read(file).notes == (f"prompts.txt: {IGNORED}--d (2x)",)
    assert [it.line for it in shared(file)] == [2, 2, 2]


def test_width_and_height_are_shared_together(tmp_path: Path) -> None:
    """Half of a size is none."""
    file = written(tmp_path, "prompts.txt", "a cat --w 64 --h 64\na dog --w 64 --h 128\n")
    assert asked(file) == {}
    assert read(file).notes == (f"prompts.txt: {IGNORED}--h (2x), --w (2x)",)
    assert asked(written(tmp_path, "b.txt", "a cat --w 64\na dog --w 64\n")) == {"--w": 64}


def test_a_comment_of_sd_scripts_begins_in_the_first_column(tmp_path: Path) -> None:
    """With a blank before it the line is a prompt, there as here."""
    file = written(tmp_path, "prompts.txt", "#no\n # yes\na cat --s 4\n")
    assert [it.text for it in read(file).prompts] == ["# yes", "a cat"]


def test_subsets_override_what_they_share(tmp_path: Path) -> None:
    """TOML: [prompt] holds for each subset, its prompt too."""
    content = (
        '[prompt]\nwidth = 64\nheight = 64\nsample_steps = 4\nprompt = "a cat"\n'
        '[[prompt.subset]]\nseed = 1\n[[prompt.subset]]\nseed = 2\nprompt = "a dog"\n'
    )
    file = written(tmp_path, "prompts.toml", content)
    assert [it.text for it in read(file).prompts] == ["a cat", "a dog"]
    assert asked(file) == {"width": 64, "height": 64, "sample_steps": 4}
    assert read(file).notes == (f"prompts.toml: {IGNORED}seed (2x)",)


def test_texts_in_a_list_have_the_options_of_lines(tmp_path: Path) -> None:
    """JSON: sd-scripts takes lines and objects in it; names of a library stay whole."""
    file = written(tmp_path, "a.json", ["a cat --s 4", {"prompt": "a dog", "sample_steps": 4}])
    assert [it.text for it in read(file).prompts] == ["a cat", "a dog"]
    assert [it.option for it in shared(file)] == [Option("steps", 4, "--s")]
    library = written(tmp_path, "b.json", {"cat": "a cat --s 4"})
    assert [it.text for it in read(library).prompts] == ["a cat --s 4"]


def test_samples_of_onetrainer(tmp_path: Path) -> None:
    """What the disabled ones ask for counts for nothing; a random seed is none."""
    one = {"prompt": "a cat", "width": 64, "height": 64, "seed": 42, "diffusion_steps": 4}
    two = {"prompt": "a dog", "width": 64, "height": 64, "seed": 42, "random_seed": True}
    off = {"prompt": "a cow", "enabled": False, "width": 128, "height": 64}
    samples = [one | {"negative_prompt": ""}, two | {"diffusion_steps": 4}, off]
    file = written(tmp_path, "samples.json", samples)
    assert asked(file) == {"width": 64, "height": 64, "diffusion_steps": 4}
    assert read(file).notes == (
        "samples.json: 1 prompt is disabled and left out",
        f"samples.json: {IGNORED}negative_prompt (1x), random_seed (1x), seed (1x)",
    )


def test_samples_of_everydream(tmp_path: Path) -> None:
    """They stand in a member, with a size in one, and without text for a random caption."""
    samples = [{"prompt": "a cat", "size": [64, 96]}, {"random_caption": True, "prompt": ""}]
    file = written(tmp_path, "samples.json", {"cfgs": [7], "samples": samples})
    assert [it.text for it in read(file).prompts] == ["a cat"]
    assert asked(file) == {"width": 64, "height": 96}


OLD = """\
config:
  process:
  - trigger_word: sks
    sample:
      neg: ''
      prompts:
      - '[trigger] on a hill --seed 7'
      - a [name] in rain
"""
NEW = """\
config:
  process:
  - sample:
      samples:
        - prompt: a cat
          width: 64
          height: 96
          neg: false
        - prompt: a dog
          width: 64
          height: 96
          network_multiplier: 0.5
        - ctrl_img: a.png
"""


def test_a_job_of_ai_toolkit_is_a_prompt_file(tmp_path: Path) -> None:
    """The older list of texts, with the trigger word in its place."""
    file = written(tmp_path, "config.yaml", OLD)
    assert [it.text for it in read(file).prompts] == ["sks on a hill", "a sks in rain"]
    assert asked(file) == {}
    assert read(file).notes == (f"config.yaml: {IGNORED}--seed (1x)",)


def test_the_newer_samples_of_ai_toolkit(tmp_path: Path) -> None:
    """Objects, of which one without a prompt is none."""
    file = written(tmp_path, "config.yml", NEW)
    assert [it.text for it in read(file).prompts] == ["a cat", "a dog"]
    assert asked(file) == {"width": 64, "height": 96}
    assert [it.line for it in shared(file)] == [5, 5]


NOTE = "have weights like (word:1.3), which are read as they are written; the first is in line"


def test_weights_in_brackets_are_told(tmp_path: Path) -> None:
    """The pipeline reads them as they are written; the time of a clock is none."""
    content = "a plain cow\na (red:1.3) cat\n(a dog)1.2 on grass\na clock (10:30)\n(a b) c\n"
    (note,) = read(written(tmp_path, "a.txt", content)).notes
    assert note == f"a.txt: 2 prompts {NOTE} 2: a (red:1.3) cat"


TOML = '[prompt]\nwidth = 64\n[[prompt.subset]]\nprompt = "a (red:1.3) cat"\n'
JOB = 'config: {process: [{sample: {prompts: ["a cat", "a (red:1.3) cat"]}}]}\n'
SAMPLES = [{"prompt": "a (red:1.3) cat", "enabled": True}, {"prompt": "a (b:2)", "enabled": False}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a (red:1.3) cat --w 64\n"),
        ("a.txt", "a cat --n bad, (red:1.3) cat\n"),
        ("a.toml", TOML),
        ("a.json", [{"prompt": "a (red:1.3) cat", "width": 64}]),
        ("config.yaml", JOB),
        ("samples.json", SAMPLES),
        ("main.json", {"samples": [{"prompt": "a cat", "negative_prompt": "(red:1.3) cat"}]}),
    ],
)
def test_weights_are_told_once_in_each_trainers_form(
    tmp_path: Path, name: str, content: object
) -> None:
    """With the file, and the first prompt or negative prompt that has one."""
    notes = [it for it in read(written(tmp_path, name, content)).notes if "weights" in it]
    (note,) = notes
    assert note.startswith(f"{name}: 1 prompt has weights like (word:1.3), which are read as they")
    assert note.endswith("(red:1.3) cat")
