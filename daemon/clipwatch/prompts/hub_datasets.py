"""Prompts of a dataset on the Hugging Face Hub, at one commit of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from clipwatch.kit.errors import SettingsError

LARGEST = 256 * 2**20
"""Bytes of files that are downloaded."""

_NAME = re.compile(
    r"hf:(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<split>[^:]+))?(:(?P<column>.+))?"
)
# in this order: the first form that there is one file of is read
_FORMS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".json", ".txt")
_OF_THE_HUB = ("dataset_infos.json",)
_PART = re.compile(r"-\d{5}-of-(\d{5})(?=\.)")
_OFFERED = 8


class Dataset(NamedTuple):
    """Some files of a dataset in the Hub's cache.

    Attributes:
        files: What to read, in order.
        column: Where it has its prompts, "" for the usual ones.
        commit: The commit that the files are of.
    """

    files: tuple[Path, ...]
    column: str
    commit: str


def fetched(name: str) -> Dataset:
    """Return the files that `hf:owner/name[@revision][/split][:column]` means, downloaded.

    What is in the cache is not downloaded again, and has to do when the Hub cannot be asked.
    `split` is a word of the file's path, or all of it.

    Raises:
        SettingsError: It is no such name, cannot be had, or leaves open which file is meant.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise SettingsError(
            f"{name!r} names no dataset", fix="write hf:owner/name or hf:owner/name/split:column"
        )
    dataset, split = found["id"], (found["split"] or "").strip("/")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    with _told(name):
        revision = found["revision"] or "main"
        sizes, online = _sizes(dataset, revision)
        chosen = _chosen(name, sizes, split)
        if sum(sizes[file] for file in chosen) > LARGEST:
            message = f"{name}: {chosen[0]} is larger than {LARGEST >> 20} MiB"
            raise SettingsError(message, fix="name a smaller one behind a slash")
        folder = Path(
            snapshot_download(
                dataset,
                repo_type="dataset",
                revision=revision,
                allow_patterns=chosen,
                local_files_only=not online,
            )
        )
    files = tuple(folder / file for file in chosen)
    return Dataset(files, found["column"] or "", folder.name)


def _sizes(dataset: str, revision: str) -> tuple[dict[str, int], bool]:
    """Return file → bytes, and whether the Hub said so; else they are what is in the cache."""
    from huggingface_hub import HfApi, errors, snapshot_download

    try:
        info = HfApi().dataset_info(dataset, revision=revision, files_metadata=True)
    except Exception as error:
        if isinstance(error, errors.HfHubHTTPError) and not error.response.is_server_error:
            raise  # it answers, and says no
        try:
            # asked for no file, it does not mind that others were never downloaded
            cached = snapshot_download(
                dataset,
                repo_type="dataset",
                revision=revision,
                allow_patterns="/",
                local_files_only=True,
            )
        except errors.LocalEntryNotFoundError:
            raise error from None
        files = (file for file in Path(cached).rglob("*") if file.is_file())
        return {it.relative_to(cached).as_posix(): it.stat().st_size for it in files}, False
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}, True


def _chosen(name: str, files: Iterable[str], split: str) -> list[str]:
    """Return the files to read: one, or all parts of one.

    Raises:
        SettingsError: There are several or none; names them.
    """
    readable = sorted(
        file for file in files if file.endswith(_FORMS) and not file.endswith(_OF_THE_HUB)
    )
    if split in readable:
        return [split]
    word = re.compile(rf"(?<![a-z0-9]){re.escape(split.lower())}(?![a-z0-9])")
    meant = [file for file in readable if not split or word.search(file.lower())]
    form = next((form for form in _FORMS if any(it.endswith(form) for it in meant)), "")
    meant = [file for file in meant if form and file.endswith(form)]
    if len({_PART.sub("", file) for file in meant}) == 1:
        if (part := _PART.search(meant[0])) and int(part[1]) != len(meant):
            message = f"{name}: only {len(meant)} of {int(part[1])} parts are there"
            raise SettingsError(message, fix="name another split, or fetch all with a network")
        return meant
    offered = ", ".join((meant or readable)[:_OFFERED]) or "none that can be read"
    what = "several files" if meant else f"no file for {split!r}" if split else "no file"
    raise SettingsError(f"{name}: has {what}", fix=f"name one behind a slash; there is {offered}")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one line.

    Raises:
        SettingsError: Says what is wrong with the dataset, and what to do.
    """
    from huggingface_hub import errors

    from clipwatch.kit.hub import hub_address, trouble

    try:
        yield
    except errors.RepositoryNotFoundError as error:
        if isinstance(error, errors.GatedRepoError) and (known := trouble(error)):
            raise SettingsError(f"{name}: {known.what}", fix=known.advice) from None
        fix = "correct its name, or set HF_TOKEN to a token that may read it"
        message = f"{hub_address()} has no such dataset, or a private one"
        raise SettingsError(f"{name}: {message}", fix=fix) from None
    except errors.RevisionNotFoundError:
        raise SettingsError(
            f"{name}: it has no such revision", fix="correct the revision"
        ) from None
    except SettingsError:
        raise
    except Exception as error:
        if (known := trouble(error)) is None:
            raise
        raise SettingsError(f"{name}: {known.what}", fix=known.advice) from None
