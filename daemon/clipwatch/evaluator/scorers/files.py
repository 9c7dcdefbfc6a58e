"""Where a scorer's files are: a folder, or the Hub's cache; safetensors weights only."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipwatch.evaluator.failures import EvaluationError, failing_as, from_hub
from clipwatch.layouts.files import NotReadable, NotWhole
from clipwatch.models.files import Unfit
from clipwatch.models.places import scorer_places
from clipwatch.models.scorers import kind_of

if TYPE_CHECKING:
    from clipwatch.domain.protocol import ScorerSpec

_FILES: Final = (
    "*.json",
    "*.txt",
    "*.jinja",
    "*.model",
    "model.safetensors",
    "model-*.safetensors",
)


def locate(spec: ScorerSpec) -> tuple[Path, str]:
    """Return the scorer's folder and, when it comes from the Hub, its commit; no pickle is fetched.

    What is whole in the Hub's cache is taken as it is, without a question to the Hub. Some models,
    the default one among them, have safetensors weights only in a pull request of the
    Hub's conversion bot. It is used when no revision is asked for.

    Raises:
        EvaluationError: There are no safetensors weights ("model").
    """
    from huggingface_hub import snapshot_download

    name, revision, files = spec.model, spec.revision, kind_of(spec.kind).files
    folder = Path(name)
    if folder.is_absolute() and not folder.is_dir():
        raise EvaluationError("model", f"scorer {name!r}: no such folder")
    if folder.is_dir():
        if any(folder.glob("*.safetensors")):
            return folder, ""
        raise EvaluationError("model", f"scorer {name!r} has no safetensors weights")
    for place in scorer_places(name, revision):
        with suppress(Unfit, NotWhole, NotReadable):
            if files is not None:
                files(place)
            return place, place.name
    for reference in [revision] if revision else ["main", *_conversions(name)]:
        found = Path(snapshot_download(name, revision=reference, allow_patterns=list(_FILES)))
        if any(found.glob("*.safetensors")):
            return found, found.name
    raise EvaluationError(
        "model",
        f"scorer {name!r} has no safetensors weights at {revision or 'main'}",
        fix="set scorer_revision to a revision that has them, or choose another scorer",
    )


def fetch(scorer: ScorerSpec) -> None:
    """Have a scorer's files here, if its kind has any.

    Raises:
        EvaluationError: They cannot be had ("model").
    """
    if kind_of(scorer.kind).files is not None:
        what = f"scorer {scorer.model!r} cannot be loaded"
        with failing_as("model", what), from_hub(what):
            locate(scorer)


def _conversions(name: str) -> list[str]:
    """Return the references under which the Hub's bot offers main's weights as safetensors."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    hub = HfApi()
    try:
        head = hub.list_repo_commits(name)[0].commit_id
        offers = [
            f"refs/pr/{offer.num}"
            for offer in hub.get_repo_discussions(
                name, author="SFconvertbot", discussion_type="pull_request"
            )
            if offer.author == "SFconvertbot" and offer.status == "open"
        ]
        # made from what main holds now, not from older weights
        return [
            offer
            for offer in offers
            if any(it.commit_id == head for it in hub.list_repo_commits(name, revision=offer))
        ]
    except Exception:  # noqa: BLE001 - the client lets its HTTP library's errors through
        # no connection: what was fetched earlier lies in the cache
        cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
        return [f"refs/pr/{path.name}" for path in (cache / "refs" / "refs" / "pr").glob("*")]


def read_processor(folder: Path) -> dict[str, Any]:
    """Return the image processor's config, {} when the folder has none."""
    if (folder / "preprocessor_config.json").is_file():
        return read_config(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():  # as transformers 5 saves a whole processor
        nested: dict[str, Any] = read_config(folder / "processor_config.json").get(
            "image_processor", {}
        )
        return nested
    return {}


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
