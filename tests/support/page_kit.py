"""The page of `clipwatch report` as a person uses it, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browser import Page
from report_kit import Parsed

CHOSEN = "document.getElementById('shown').textContent"
CURRENT = "document.querySelector('[data-current=true]')?.dataset.prompt"
ROWS = "[...document.querySelectorAll('.line')].sort((a, b) => a.offsetTop - b.offsetTop)"
ORDER = f"{ROWS}.map(it => Number(it.dataset.prompt))"
OPEN = "document.getElementById('viewer').open"


def load(page: Page, place: Path | str, width: int = 1280, height: int = 900) -> None:
    """Open a page of ours, a file or an address, and wait until it is drawn."""
    page.events.clear()
    page.open(place if isinstance(place, str) else place.as_uri(), width, height)
    page.until("document.querySelectorAll('.cell').length")
    page.ask("document.getElementById('explore').scrollIntoView()")


def in_order(page: Page, place: Path | str) -> None:
    """Check that nothing was said to the console, refused, or asked of anybody else."""
    page.ask("1")  # what came so far is read
    seen = {it["method"]: it["params"] for it in page.events}
    for trouble in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
        assert trouble not in seen, seen[trouble]
    asked = [
        it["params"]["request"]["url"]
        for it in page.events
        if it["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    own = place if isinstance(place, str) else place.as_uri()
    mine = ("data:image/webp", own, "about:blank")
    assert [url for url in asked if not url.startswith(mine)] == []
    assert page.ask("document.title") == "clipwatch report"


def curve_of(file: Path) -> dict[str, Any]:
    """Return the data of a page's curve."""
    curve: dict[str, Any] = Parsed(file.read_text(encoding="utf-8")).json["data"]["curves"][0]
    return curve


def choose(page: Page, name: str, value: str) -> None:
    """Choose a value as a person does."""
    event = "input" if name in {"column", "find", "wipe"} else "change"
    page.ask(
        f"(it => {{ it.value = {value!r}; it.dispatchEvent(new Event('{event}', {{bubbles: true}}))"
        f"; return 1 }})(document.getElementById('{name}'))"
    )
