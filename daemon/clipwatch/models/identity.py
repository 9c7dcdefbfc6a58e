"""The content of all files that make a run's numbers: told by digests, remembered file by file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from clipwatch.domain.protocol import EvaluationProtocol, Input, Part, ScorerSpec
from clipwatch.kit.filesystems import inode_of
from clipwatch.layouts.files import NotReadable, NotWhole, Unsupported, opened, samples
from clipwatch.layouts.unchanged import RACY_SECONDS
from clipwatch.models.files import Unfit, part_files, pipeline_files
from clipwatch.models.kinds import commit_key
from clipwatch.models.pictures import images_in
from clipwatch.models.places import places, scorer_places
from clipwatch.models.scorers import folder_of, kind_of

Signature = tuple[int, int, int, int]
Files = dict[str, tuple[Path, list[Path]]]
"""By part: the folder from which its files are named, and the files."""


class ModelError(Exception):
    """A model cannot be used as it lies; the text is one line.

    Attributes:
        remote: It is named by its Hub id and may be whole once it was fetched.
    """

    def __init__(self, reason: str, *, remote: bool) -> None:
        super().__init__(reason)
        self.remote = remote


class Identities:
    """Digests of files, each read once for its size, times and inode.

    Args:
        wall: Seconds of the clock of file times.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._known: dict[Path, tuple[Signature, str]] = {}

    def inputs(self, protocol: EvaluationProtocol) -> tuple[Input, ...]:
        """Return the identity of all files that are loaded for a protocol, sorted by part.

        Raises:
            ModelError: A model is not here, not whole, or not readable.
        """
        found = files_of(protocol)
        try:
            return tuple(Input(part, self._digest(*found[part])) for part in sorted(found))
        except (OSError, NotWhole, NotReadable) as error:
            raise ModelError(f"models cannot be read: {error}", remote=False) from error

    def of_scorer(self, scorer: ScorerSpec) -> str:
        """Return the identity of a scorer's files, "" for one without any.

        Raises:
            ModelError: As `inputs`.
        """
        found = scorer_files(scorer)
        try:
            digests = {part: self._digest(*its) for part, its in found.items()}
        except (OSError, NotWhole, NotReadable) as error:
            raise ModelError(f"scorer cannot be read: {error}", remote=False) from error
        return scorer_digest(scorer, digests)

    def commits(self, protocol: EvaluationProtocol) -> dict[str, str]:
        """Return the commits of the models from the Hub, under their names in an environment.

        Raises:
            ModelError: As `inputs`.
        """
        found = files_of(protocol)
        named = {"base_commit": ("base", protocol.base_model)}
        for scorer in protocol.scorers:
            named[commit_key(scorer.name)] = (scorer_part(scorer), scorer.model)
        return {
            key: found[part][0].name
            for key, (part, name) in named.items()
            if part in found and not Path(name).is_absolute()
        }

    def unchanged(self, protocol: EvaluationProtocol) -> bool:
        """Whether `inputs` would return what it returned last; costs a stat for each file."""
        try:
            paths = [path for _, paths in files_of(protocol).values() for path in paths]
            return all(self._remembered(path) for path in paths)
        except (OSError, ModelError):
            return False

    def _digest(self, folder: Path, paths: list[Path]) -> str:
        digest = hashlib.sha256()
        for path in paths:
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name}\0{self._of(path)}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def _of(self, path: Path) -> str:
        if known := self._remembered(path):
            return known
        before = _signature(path)
        found = hashlib.sha256(str(before[0]).encode())
        with opened(path) as file:
            for piece in samples(file, before[0]):
                found.update(piece)
        if _signature(path) != before:
            raise NotWhole(f"{path} was written while it was read")
        self._known[path] = (before, found.hexdigest())
        return found.hexdigest()

    def _remembered(self, path: Path) -> str:
        """Return the digest of a file that is as it was; "" of one that is or may be another."""
        signature, digest = self._known.get(path, ((0, 0, 0, 0), ""))
        # what changed only just now may change again within a tick of its clock
        racy = max(signature[2:]) > (self._wall() - RACY_SECONDS) * 1e9
        return digest if not racy and _signature(path) == signature else ""


def files_of(protocol: EvaluationProtocol) -> Files:
    """Return by part the files that are loaded for a protocol.

    Raises:
        ModelError: A model is not here, not whole, or not readable.
    """
    return base_of(protocol) | _parts_of(protocol) | _scorers_of(protocol)


def base_of(protocol: EvaluationProtocol) -> Files:
    """Return by part the files of the base model, without those parts that come from elsewhere.

    Raises:
        ModelError: It is not here, not whole, or not readable.
    """
    instead = [part.name for part in protocol.parts]

    def read(folder: Path) -> Files:
        found = pipeline_files(folder, protocol.base_variant, instead)
        return {f"base/{part}".rstrip("/"): (folder, paths) for part, paths in found.items()}

    roots = places(protocol.base_model, protocol.base_revision)
    return _first("base model", protocol.base_model, roots, read)


def scorer_part(scorer: ScorerSpec) -> str:
    """Name a scorer among the inputs."""
    return f"scorer/{scorer.name}".rstrip("/")


def images_part(scorer: ScorerSpec) -> str:
    """Name the images that belong to a scorer among the inputs."""
    return f"{scorer_part(scorer)}/images"


def scorer_digest(scorer: ScorerSpec, digests: Mapping[str, str]) -> str:
    """Return what identifies a scorer by the `digests` of all parts; "" for one without files."""
    return digests.get(scorer_part(scorer), "") + digests.get(images_part(scorer), "")


def _parts_of(protocol: EvaluationProtocol) -> Files:
    found: Files = {}
    for part in protocol.parts:
        roots = [root / part.subfolder for root in places(part.model, part.revision)]

        def read(folder: Path, part: Part = part) -> Files:
            return {part.name: (folder, part_files(folder, part.variant))}

        found |= _first(part.name, part.model, roots, read)
    return found


def _scorers_of(protocol: EvaluationProtocol) -> Files:
    found: Files = {}
    for scorer in protocol.scorers:
        found |= scorer_files(scorer)
    return found


def scorer_files(scorer: ScorerSpec) -> Files:
    """Return the files of a scorer, and the images that belong to it; nothing for none.

    Raises:
        ModelError: It is not here, not whole, or not readable.
    """
    files = kind_of(scorer.kind).files
    if files is None:
        return _images_of(scorer)

    def read(folder: Path) -> Files:
        return {scorer_part(scorer): (folder, files(folder))}

    roots = scorer_places(scorer.model, scorer.revision)
    return _first("scorer", scorer.model, roots, read) | _images_of(scorer)


def _images_of(scorer: ScorerSpec) -> Files:
    folder = folder_of(scorer)
    if folder is None:
        return {}
    try:
        return {images_part(scorer): (folder, images_in(folder))}
    except (OSError, Unfit, NotReadable) as error:
        named = scorer.name or str(scorer)
        raise ModelError(f"scorer {named!r}: {error}", remote=False) from error


def _first(what: str, name: str, roots: list[Path], read: Callable[[Path], Files]) -> Files:
    """Return what the first of these folders holds that is whole."""
    reason = ""
    for folder in roots:
        try:
            return read(folder)
        except (OSError, Unfit, NotWhole, NotReadable, Unsupported, ValueError) as error:
            reason = reason or str(error)
    remote = not Path(name).is_absolute()
    lacks = "is not in the Hub's cache" if remote and not roots else reason or "is gone"
    raise ModelError(f"{what} {name!r} {lacks}", remote=remote)


def _signature(path: Path) -> Signature:
    found = path.stat()
    return found.st_size, inode_of(found), found.st_mtime_ns, found.st_ctime_ns
