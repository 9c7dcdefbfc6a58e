"""A checkpoint that travels to a node: what of it, and whether it is the one that was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.domain.events import WeightFile
from clipwatch.executors.messages import Evaluate
from clipwatch.executors.ray import parcels
from clipwatch.executors.ray.parcels import NotSent, digest_of, lies_here, pack, unpack
from protocols import PROTOCOL


@pytest.fixture
def pipeline(tmp_path: Path) -> Evaluate:
    """Return a request for a whole pipeline, with files that nobody needs beside it."""
    root = tmp_path / "pipeline"
    texts = {
        "model_index.json": "{}",
        "unet/config.json": "{}",
        "unet/diffusion_pytorch_model.safetensors": "weights " * 9,
        "tokenizer/vocab.txt": "a\nb\n",
        "tokenizer/empty.txt": "",
        "unet/code.py": "raise SystemExit",
        "optimizer.bin": "pickled",
        ".hidden/secret.json": "{}",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    weights = "unet/diffusion_pytorch_model.safetensors"
    stat = (root / weights).stat()
    files = (WeightFile(weights, stat.st_size, stat.st_mtime_ns, stat.st_ino),)
    return Evaluate(str(root), "pipeline", "", files, PROTOCOL, (), None, "cpu", 1)


def test_what_an_evaluation_reads_travels_in_pieces_and_no_more(
    pipeline: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, configs and tokenizers; no code, no pickle, nothing hidden."""
    monkeypatch.setattr(parcels, "PIECE", 10)
    packed = pack(pipeline, lambda piece: piece)
    there = tmp_path / "there"
    for file in packed:
        for piece in (*file.pieces, b""):
            assert len(piece) <= 10
            unpack(there, file.path, piece)
        assert digest_of(there / file.path) == file.digest
    found = {it.relative_to(there).as_posix() for it in there.rglob("*") if it.is_file()}
    assert found == {
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/vocab.txt",
        "tokenizer/empty.txt",
    }
    assert all((there / it).read_bytes() == (Path(pipeline.path) / it).read_bytes() for it in found)


def test_one_that_is_gone_or_another_one_is_not_sent(pipeline: Evaluate) -> None:
    """It would get the other's score."""
    weights = Path(pipeline.path) / pipeline.files[0].path

    def written_again(piece: bytes) -> bytes:
        if piece.startswith(b"weights"):
            weights.write_text("others")
        return piece

    with pytest.raises(NotSent, match="was written again") as found:
        pack(pipeline, written_again)
    assert found.value.kind == "changed"
    weights.unlink()
    with pytest.raises(NotSent, match="is gone") as found:
        pack(pipeline, lambda piece: piece)
    assert found.value.kind == "vanished"


def test_storage_is_shared_where_sizes_and_times_agree(pipeline: Evaluate) -> None:
    """Not by inodes, which a mount may number by itself."""
    root, [file] = Path(pipeline.path), pipeline.files
    assert not lies_here(root, (WeightFile(file.path, file.size, 1, file.inode),))
    assert lies_here(root, (WeightFile(file.path, file.size, file.mtime_ns, 1),))
    assert not lies_here(root / "elsewhere", pipeline.files)


@pytest.mark.parametrize("name", ["../out", "/etc/out", "unet/../../out"])
def test_nothing_is_written_outside_of_the_folder(name: str, tmp_path: Path) -> None:
    """Whoever sends it."""
    with pytest.raises(ValueError, match="leads out"):
        unpack(tmp_path / "there", name, b"x")
