"""What an index page shows: the README with whole addresses, and the project's own.

The repository's address stands in pyproject.toml, `[tool.hatch.metadata.hooks.custom]`. While it
is empty the page has no links to other files, rather than dead ones, and the metadata no addresses.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"\[([^\]\n]+)\]\(([^)\s]+)\)")


class IndexPage(MetadataHookInterface):
    """Fills in `readme` and `urls` of the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill them in."""
        source, version = self.config.get("source", ""), metadata["version"]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        page = index_page(text, source, version)
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
        metadata["urls"] = addresses(source, version)


def index_page(readme: str, source: str, version: str) -> str:
    """Return the README with each link to a file of the project as a whole address.

    Without an address to begin with, the words of these links remain. Links within the page and
    to other sites stay as they are.

    Args:
        readme: Markdown.
        source: The repository's address, without "/" at its end; may be empty.
        version: Its tag "v<version>" is what the links lead to.
    """

    def whole(link: re.Match[str]) -> str:
        words, to = link[1], link[2]
        if to.startswith("#") or "://" in to:
            return link[0]
        return f"[{words}]({source}/blob/v{version}/{to})" if source else words

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
