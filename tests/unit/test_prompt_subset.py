"""Some prompts of many: the same ones always, and every category among them."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.protocol import Prompt
from clipwatch.kit.errors import SettingsError
from clipwatch.prompts import builtin, library, stratified
from clipwatch.prompts.grammar import _WORDS as WORDS
from clipwatch.prompts.grammar import MOST, a, compositional, many, one
from clipwatch.prompts.subset import subset
from clipwatch.settings import Settings, load

PROMPTS = st.lists(
    st.builds(Prompt, st.text(max_size=3), st.just("x"), st.sampled_from("abcde")),
    min_size=1,
    max_size=60,
    unique_by=lambda prompt: prompt.id,
)


@given(prompts=PROMPTS, seed=st.integers(0, 99), most=st.integers(1, 70))
def test_a_subset_does_not_depend_on_the_order(prompts: list[Prompt], seed: int, most: int) -> None:
    """Shuffling changes where prompts stand, not which are chosen; the order is the source's."""
    chosen = subset(prompts, most)
    shuffled = random.Random(seed).sample(prompts, len(prompts))
    again = subset(shuffled, most)
    assert set(again) == set(chosen)
    assert len(chosen) == min(most, len(prompts))
    assert [prompt for prompt in prompts if prompt in chosen] == list(chosen)
    assert stratified(shuffled) == stratified(prompts)
    assert set(chosen) <= set(subset(prompts, most + 1))


@given(prompts=PROMPTS)
def test_every_beginning_is_balanced(prompts: list[Prompt]) -> None:
    """One of each category comes first; then none is a whole prompt ahead in proportion.

    Webster's rule: with c of n prompts taken, no other category deserved the last place more.
    """
    sizes = Counter(prompt.category for prompt in prompts)
    order = stratified(prompts)
    assert Counter(order) == Counter(prompts)
    taken: Counter[str] = Counter()
    for place, prompt in enumerate(order):
        if place < len(sizes):
            assert prompt.category not in taken
        else:
            claims = {
                name: Fraction(2 * taken[name] + 1, size)
                for name, size in sizes.items()
                if taken[name] < size
            }
            assert claims[prompt.category] == min(claims.values())
        taken[prompt.category] += 1


def test_the_choice_stays_what_it_was() -> None:
    """Scores of releases can only be compared when each chooses the same prompts."""
    first = [prompt.id for prompt in stratified(builtin())[:4]]
    assert first == ["two-chairs", "teapot", "greenhouse-in-winter", "mug-good-day"]
    assert [prompt.id for prompt in compositional(3)] == [
        "a-pink-stone-candle-on-a-f8f9eb1a",
        "a-grey-shoe-and-a-green-b95797d3",
        "three-red-apples-on-a-red-1aaabc58",
    ]


def test_compositional_prompts_are_distinct_and_spread() -> None:
    """All 5,000 have texts and ids of their own, a dozen categories differ by one at most."""
    prompts = compositional(MOST)
    assert (
        len(prompts) == len({it.text for it in prompts}) == len({it.id for it in prompts}) == 5000
    )
    for number in (1, 12, 100, 4999):
        assert compositional(number) == prompts[:number]
    categories = Counter(prompt.category for prompt in prompts)
    assert len(categories) == 12
    assert max(categories.values()) - min(categories.values()) == 1


def test_compositional_words_are_all_used() -> None:
    """No word of the grammar is out of reach, and each count comes about as often."""
    texts = [prompt.text for prompt in compositional(MOST)]
    for name, words in WORDS.items():
        for word in words:
            forms = set(word.split("/"))
            assert any(form in text for text in texts for form in forms), (name, word)
    counted = [it.text.split()[0] for it in compositional(MOST) if it.category == "counting"]
    times = Counter(counted)
    assert times.keys() == set(WORDS["counts"])
    assert max(times.values()) - min(times.values()) <= 2


def test_compositional_prompts_are_english() -> None:
    """Articles fit the next word, plurals follow numbers, and the same thing is not named twice."""
    numbers, plurals = "|".join(WORDS["counts"]), {many(it) for it in WORDS["things"]}
    for prompt in compositional(MOST):
        for article, letter in re.findall(r'\b(an?) "?(\w)', prompt.text):
            assert article == ("an" if letter in "aeiou" else "a"), prompt.text
        if prompt.category == "counting":
            found = re.match(rf"(?:{numbers}) \w+ (\w+) ", prompt.text)
            assert found
            assert found[1] in plurals
        if prompt.category in ("binding", "relation", "three-things"):
            words = re.findall(r"\w+", prompt.text)
            named = [word for word in words if word in {one(it) for it in WORDS["things"]}]
            assert len(named) == len(set(named)) >= 2, prompt.text


@pytest.mark.parametrize(
    ("words", "written"), [("orange cat", "an orange cat"), ("key", "a key"), ("ox", "an ox")]
)
def test_articles(words: str, written: str) -> None:
    """A vowel asks for "an"."""
    assert a(words) == written


@pytest.mark.parametrize(
    "rest", ["", ":", ":0", ":5001", ":-3", ":x", ":1.5", ":99999999999", ":²"]
)
def test_a_wrong_number_is_refused(rest: str) -> None:
    """The line says how it is written."""
    with pytest.raises(SettingsError, match=r"write it like compositional:500, at most 5000"):
        library(f"compositional{rest}")


def configured(folder: Path, environ: dict[str, str] | None = None, **keys: object) -> Settings:
    """Load a configuration with these keys of ours."""
    least = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl"}
    (folder / "config.json").write_text(json.dumps({**least, "clipwatch": keys}))
    return load(folder, environ=environ or {}, cwd=folder)


def test_settings_name_libraries(tmp_path: Path) -> None:
    """`prompts` takes a library's name, and the file of that name when it reads as a path."""
    assert configured(tmp_path, prompts="core").protocol.prompts == builtin()
    assert configured(tmp_path, prompts="compositional:7").protocol.prompts == compositional(7)
    (tmp_path / "core").write_text('["a cat"]')
    assert [it.text for it in configured(tmp_path, prompts="./core").protocol.prompts] == ["a cat"]
    with pytest.raises(SettingsError, match=r"config\.json:1: prompts: 'compositional:0' names no"):
        configured(tmp_path, prompts="compositional:0")


def test_settings_use_at_most_max_prompts(tmp_path: Path) -> None:
    """The key, its variable and all sources together; what was left out of a file is a remark."""
    assert configured(tmp_path, max_prompts=20).protocol.prompts == subset(builtin(), 20)
    environ = {"CLIPWATCH_MAX_PROMPTS": "3"}
    assert configured(tmp_path, environ, max_prompts=20).protocol.prompts == subset(builtin(), 3)
    (tmp_path / "a.txt").write_text("a cat\na cat\n" + "word " * 71)
    loaded = configured(tmp_path, user_prompt_library="a.txt", max_prompts=2)
    assert {prompt.text for prompt in loaded.protocol.prompts} == {"a cat", ("word " * 71).strip()}
    assert loaded.remarks == (
        "a.txt: 1 prompt repeats an earlier one, which counts once; the first is in line 2: a cat",
        "1 prompt has more than 70 words and signs and will probably be cut by CLIP (77 tokens)",
    )
    with pytest.raises(SettingsError, match="max_prompts: must be a whole number of at least 1"):
        configured(tmp_path, max_prompts=0)
