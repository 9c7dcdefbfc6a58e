"""What an index page shows: the README with whole addresses, and the project's own.

The repository's address stands in pyproject.toml, `[tool.hatch.metadata.hooks.custom]`; while it
is empty, it is where the clone that is built came from. Without either the page has no links to
other files and no pictures, rather than dead ones, and the metadata no addresses.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_REMOTE = re.compile(
    r"(?:(?:https|ssh|git)://(?:[^/@]*@)?(?P<host>[\w.-]+)(?::\d+)?/|(?:[^/@:]*@)(?P<short>[\w.-]+):)"
    r"(?P<path>[\w./~-]+?)(?:\.git)?/?"
)
_LINK = re.compile(r"(!?)\[([^\]\n]+)\]\(([^)\s]+)\)")


class IndexPage(MetadataHookInterface):
    """Fills in `readme` and `urls` of the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill them in."""
        source = self.config.get("source") or origin(Path(self.root))
        version = metadata["version"]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        page = index_page(text, source, version)
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
        metadata["urls"] = addresses(source, version)


def origin(clone: Path) -> str:
    """Return the web address of the repository that a folder was cloned from, "" where none is."""
    if not (clone / ".git").exists():
        return ""
    try:
        asked = ["git", "-C", str(clone), "remote", "get-url", "origin"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return web(told)


def web(remote: str) -> str:
    """Return the web address of a remote of git, without a login; "" for one that is no host's."""
    found = _REMOTE.fullmatch(remote)
    return f"https://{found['host'] or found['short']}/{found['path']}" if found else ""


def index_page(readme: str, source: str, version: str) -> str:
    """Return the README with each link to a file of the project as a whole address.

    Without an address to begin with, the words of these links remain, and of pictures nothing.
    Links within the page and to other sites stay as they are.

    Args:
        readme: Markdown.
        source: The repository's address, without "/" at its end; may be empty.
        version: Its tag "v<version>" is what the links lead to.
    """

    def whole(link: re.Match[str]) -> str:
        picture, words, to = link.groups()
        if to.startswith("#") or "://" in to:
            return link[0]
        if not source:
            return "" if picture else words
        return f"{picture}[{words}]({source}/{'raw' if picture else 'blob'}/v{version}/{to})"

    return _LINK.sub(whole, readme)


def addresses(source: str, version: str) -> dict[str, str]:
    """Return the project's addresses, by the labels that index pages know."""
    if not source:
        return {}
    return {
        "Source": source,
        "Documentation": f"{source}/blob/v{version}/README.md",
        "Changelog": f"{source}/blob/v{version}/CHANGELOG.md",
        "Issues": f"{source}/issues",
    }
