"""The images of `clipwatch report`: in the page or beside it, and never more than may be."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from clipwatch.journal import log_file
from clipwatch.kit.errors import ClipwatchError
from clipwatch.report.curves import curves_of
from clipwatch.report.images import SIZES, all_encoded, encoded, size_for
from clipwatch.report.page import write_report
from clipwatch.results.results import open_results
from report_kit import Parsed, hostile_run, picture
from results_kit import Log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log with 20 prompts in 5 checkpoints, images of 300 pixels."""
    return hostile_run(tmp_path_factory.mktemp("state"), 20, side=300)


def written(
    log: Log, output: Path, largest: int, assets: Path | None = None
) -> tuple[Parsed, list[str]]:
    """Return a page of at most so many bytes, and what it leaves out."""
    with open_results(log_file(log.folder)) as results:
        curves = curves_of(results.state["lora-1"])
        left_out = write_report(
            results,
            curves,
            log.folder,
            output,
            assets=assets,
            largest=largest,
            told=lambda _: None,
        )
    return Parsed(output.read_text(encoding="utf-8")), left_out


def shown(page: Parsed) -> list[list[str]]:
    """Return by column what there is of each prompt."""
    return [[row[0] for row in column] for column in page.json["images-0"]]


def test_a_page_with_room_has_every_image_as_it_is(log: Log, tmp_path: Path) -> None:
    """WebP, as large as it was, each in its place."""
    page, left_out = written(log, tmp_path / "page.html", 50_000_000)
    assert left_out == []
    for place, column in enumerate(shown(page)):
        for text in column:
            with Image.open(io.BytesIO(base64.b64decode(text))) as image:
                assert (image.format, image.size) == ("WEBP", (300, 300))
                red, *_ = image.convert("RGB").getpixel((200, 50))  # type: ignore[misc]
                assert abs(red - 40 * place) < 12


@pytest.mark.parametrize("share", [0.6, 0.3, 0.1, 0.02])
def test_a_page_is_no_larger_than_it_may_be(log: Log, tmp_path: Path, share: float) -> None:
    """Images become smaller first; then whole prompts are left out, which the page says."""
    full, _ = written(log, tmp_path / "full.html", 50_000_000)
    bare = (tmp_path / "full.html").stat().st_size - sum(len(t) for c in shown(full) for t in c)
    largest = bare + int(share * ((tmp_path / "full.html").stat().st_size - bare)) + 200
    page, left_out = written(log, tmp_path / "page.html", largest)
    assert (tmp_path / "page.html").stat().st_size <= largest
    there = [[text is not None for text in column] for column in shown(page)]
    assert all(column == there[0] for column in there)  # a prompt is there whole, or not at all
    lacking = there[0].count(False)
    told = f"The images of {lacking} prompt{'s' * (lacking != 1)} are left out for --max-size."
    assert left_out == ([told] if lacking else [])
    assert page.json["data"]["curves"][0]["left_out"] == (told if lacking else "")
    if share == 0.02:
        assert lacking


def test_the_prompts_that_changed_most_keep_their_images(log: Log, tmp_path: Path) -> None:
    """From the base to the best, whether they gained or lost."""
    full, _ = written(log, tmp_path / "full.html", 50_000_000)
    bare = (tmp_path / "full.html").stat().st_size - sum(len(t) for c in shown(full) for t in c)
    page, _ = written(log, tmp_path / "page.html", bare + 60_000)
    curve = page.json["data"]["curves"][0]
    base, best = (curve["checkpoints"][it]["scores"] for it in (0, curve["best"]))
    changes = [abs(b[0] - a[0]) for a, b in zip(base, best, strict=True)]
    there = [text is not None for text in shown(page)[0]]
    kept = [change for change, is_there in zip(changes, there, strict=True) if is_there]
    left = [change for change, is_there in zip(changes, there, strict=True) if not is_there]
    assert kept
    assert left
    assert min(kept) >= max(left)


def test_images_beside_the_page_have_two_sizes(log: Log, tmp_path: Path) -> None:
    """The page is small, and names them from its own folder."""
    (tmp_path / "out").mkdir()
    assets = tmp_path / "pictures of it"
    page, _ = written(log, tmp_path / "out" / "page.html", 1_000_000, assets)
    assert page.json["data"]["images"] == ["../pictures%20of%20it/", ".webp", "-large.webp"]
    names = [name for column in shown(page) for name in column]
    assert len(set(names)) == 100
    for name in names:
        for end, size in (("", (256, 256)), ("-large", (300, 300))):
            with Image.open(assets / f"{name}{end}.webp") as image:
                assert image.size == size


def test_images_that_are_gone_are_told(tmp_path: Path) -> None:
    """Those that keep_images let go of, and a file that is no image."""
    log = hostile_run(tmp_path / "state", 4, (0, 100), side=32)
    first, second, *_ = sorted((log.folder / "images").rglob("*.png"))
    first.unlink()
    second.write_bytes(b"no image")
    page, left_out = written(log, tmp_path / "page.html", 50_000_000)
    assert left_out == ["Not kept any more: 1 image (keep_images)."]
    assert sum(text is None for column in shown(page) for text in column) == 2


def test_an_image_outside_of_its_folder_is_not_taken(tmp_path: Path) -> None:
    """A log of somebody else may name any file."""
    log = hostile_run(tmp_path / "state", 4, (0, 100), side=32)
    secret = tmp_path / "secret.png"
    picture(secret, "secret", 0, 32)
    victim = min((log.folder / "images").rglob("*.png"))
    victim.unlink()
    victim.symlink_to(secret)
    page, _ = written(log, tmp_path / "page.html", 50_000_000)
    assert sum(text is None for column in shown(page) for text in column) == 1


def test_a_page_that_cannot_be_small_enough_is_not_written(log: Log, tmp_path: Path) -> None:
    """One line says what it would take."""
    with pytest.raises(ClipwatchError, match="without any image: use --max-size 1, or") as error:
        written(log, tmp_path / "page.html", 50_000)
    assert "0.2 MB" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_tried_from_the_largest(tmp_path: Path) -> None:
    """The first that fits; the smallest where none does."""
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        picture(path, path.name, 0, 600)
    assert size_for(paths, 10_000_000) is SIZES[0]
    assert size_for(paths, 10) is SIZES[-1]
    assert size_for([], 10) is SIZES[-1]
    small = encoded(paths[0], SIZES[-1])
    assert small is not None
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (128, 128)
    assert list(all_encoded([*paths, tmp_path / "none.png"], SIZES[-1]))[3] is None
