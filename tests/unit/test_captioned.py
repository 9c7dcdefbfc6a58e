"""Images with captions are read from what people have: folders and tables."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from clipwatch.kit.errors import SettingsError
from clipwatch.prompts.captioned import captioned

NAMES = ("a.png", "b.JPG", "c.webp")


def write(folder: Path, captions: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, caption in captions.items():
        (folder / name).write_bytes(b"")
        (folder / Path(name).with_suffix(".txt")).write_text(caption)
    return folder


def told(path: Path, most: int = 9) -> dict[str, str]:
    return {Path(it.path).name: it.caption for it in captioned(path, most)}


def test_a_folder_has_a_text_beside_each_image(tmp_path: Path) -> None:
    """Its first line counts, an empty one is an empty caption; nothing else does."""
    folder = write(tmp_path / "set", {"a.png": " a cat \nmore", "b.JPG": "", "c.webp": "a hat"})
    (folder / "notes.md").write_text("x")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "d.bmp").write_bytes(b"")
    (folder / "d.caption").write_text("kohya's")
    assert told(folder) == {"a.png": "a cat", "b.JPG": "", "c.webp": "a hat", "d.bmp": "kohya's"}
    assert all(Path(it.path).parent == folder for it in captioned(folder, 9))


ROWS = [{"file_name": name, "text": f"of {name}"} for name in NAMES]


def tables(folder: Path) -> list[Path]:
    """Write the same rows in every form."""
    write(folder, dict.fromkeys(NAMES, "not this"))
    lines = "\n".join(json.dumps(row) for row in ROWS)
    (folder / "rows.jsonl").write_text(f"{lines}\n\n")
    for end, mark in ((".csv", ","), (".tsv", "\t")):
        cells = [("File_Name", "Caption"), *((it["file_name"], it["text"]) for it in ROWS)]
        (folder / f"rows{end}").write_text("".join(f"{mark.join(it)}\n" for it in cells))
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "rows.parquet")
    return [folder / f"rows{it}" for it in (".jsonl", ".csv", ".tsv", ".parquet")]


def test_a_table_names_images_beside_it(tmp_path: Path) -> None:
    """Each form of it means the same; in a folder `metadata.jsonl` speaks for all."""
    wanted = {name: f"of {name}" for name in NAMES}
    paths = tables(tmp_path / "set")
    assert [told(it) for it in paths] == [wanted] * len(paths)
    (tmp_path / "set" / "metadata.jsonl").write_bytes(paths[0].read_bytes())
    assert told(tmp_path / "set") == wanted


def test_the_same_images_are_taken_wherever_they_lie(tmp_path: Path) -> None:
    """Few of many, by name and caption alone; those taken of more are taken of fewer, too."""
    captions = {f"{number}.png": f"picture {number}" for number in range(20)}
    one, other = write(tmp_path / "one", captions), write(tmp_path / "other", captions)
    five = [*told(one, 5)]
    assert five == [*told(other, 5)]
    assert [*told(one, 7)][:5] == five
    assert five != sorted(captions)[:5]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.jsonl", '{"text": "a"}', "1: names no image as file_name or"),
        ("rows.jsonl", '{"file_name": "a.png"}', "1: has no caption as caption or text"),
        ("rows.jsonl", '{"file_name": "a.png", "text": 3}', "1: has no caption"),
        ("rows.jsonl", '{"file_name": "a.png", "text": "a"}\n[]', "2: is no JSON object"),
        ("rows.jsonl", "{", "1: is no JSON"),
        ("rows.csv", 'file,text\n"a.png,a\0', "has a NUL byte"),
        ("rows.csv", "file,text\nnone.png,a", "and there is no such file"),
        ("rows.csv", "", "holds no image"),
        ("rows.xlsx", "", "is neither a folder nor one of .jsonl, .ndjson, .csv"),
        ("rows.parquet", "x", "is no Parquet file that can be read"),
        ("rows.jsonl", '{"file_name": "a.png", "text": "\\u001b[2J"}', "has the control character"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    """In one line that names the file, and the line in it."""
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as caught:
        captioned(tmp_path / name, 9)
    assert said in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_without_a_caption_is_told(tmp_path: Path) -> None:
    """With what to do: an empty file stands for an empty caption."""
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"a\.png has no caption.*write a\.txt beside it"):
        captioned(tmp_path, 9)


def test_parquet_without_pyarrow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what installs it."""

    def without(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("clipwatch.prompts.captioned.import_module", without)
    (tmp_path / "rows.parquet").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"pip install 'clipwatch\[parquet\]'"):
        captioned(tmp_path / "rows.parquet", 9)
