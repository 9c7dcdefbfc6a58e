"""What every layout must do, as tests to inherit from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from clipwatch.domain.sighting import Partial, Unusable, Whole
from clipwatch.layouts.base import Candidate, Layout
from clipwatch.layouts.files import NotReadable, NotWhole, Unsupported
from clipwatch.layouts.listing import listed
from clipwatch.layouts.scanner import Scanner

Save = Callable[[Path, int], None]
"""Writes a complete checkpoint of a step (or epoch) into an output directory, as its trainer."""

STEPS = (2, 10, 300)


class LayoutContract:
    """The contract of clipwatch.layouts.base.Layout.

    A subclass has the pytest fixtures `layout` and `save`: the layout, and how its trainer writes
    a checkpoint (see Save). `tmp_path`, the output directory, is empty at first.
    """

    def found(self, layout: Layout, output_dir: Path) -> list[Candidate]:
        """Return the candidates in an output directory, in the order of their steps."""
        found = layout.candidates(listed(output_dir))
        return sorted(found, key=lambda candidate: candidate.step)

    def test_what_is_no_checkpoint_is_left_alone(self, layout: Layout, tmp_path: Path) -> None:
        """Neither an empty output directory nor what trainers leave in it is claimed."""
        assert self.found(layout, tmp_path) == []
        for folder in ("logs", "samples", ".cache"):
            (tmp_path / folder).mkdir()
        (tmp_path / "README.md").write_text("A model.")
        assert self.found(layout, tmp_path) == []

    def test_each_checkpoint_is_one_candidate(
        self, layout: Layout, save: Save, tmp_path: Path
    ) -> None:
        """Each has its own name and the step that it was saved at; all count the same thing."""
        for step in STEPS:
            save(tmp_path, step)
        found = self.found(layout, tmp_path)
        assert tuple(candidate.step for candidate in found) == STEPS
        assert len({candidate.name for candidate in found}) == len(STEPS)
        assert len({candidate.unit for candidate in found}) == 1
        assert all(
            (candidate.root / name).exists() for candidate in found for name in candidate.files
        )

    def test_the_disk_is_not_asked(self, layout: Layout, save: Save, tmp_path: Path) -> None:
        """The listing is all that candidates are found by: looking costs the trainer nothing."""
        save(tmp_path, 10)
        real = listed(tmp_path)
        elsewhere = replace(real, root=tmp_path / "gone")
        [here], [there] = layout.candidates(real), layout.candidates(elsewhere)
        assert (here.step, here.unit, here.name, here.files) == (
            *(there.step, there.unit, there.name),
            there.files,
        )

    def test_a_complete_checkpoint_tells_what_to_load(
        self, layout: Layout, save: Save, tmp_path: Path
    ) -> None:
        """Every file of the weights is there, and the time to wait is no nonsense."""
        save(tmp_path, 10)
        [candidate] = self.found(layout, tmp_path)
        inspection = layout.inspect(candidate, "live")
        assert inspection.weights.files
        assert all((candidate.root / file.path).is_file() for file in inspection.weights.files)
        assert inspection.settlings >= 0

    def test_looking_changes_nothing(self, layout: Layout, save: Save, tmp_path: Path) -> None:
        """Neither files nor their times change, and a second look finds the same."""
        save(tmp_path, 10)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        [candidate] = self.found(layout, tmp_path)
        first = layout.inspect(candidate, "live")
        assert self.found(layout, tmp_path) == [candidate]
        assert layout.inspect(candidate, "live") == first
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    def test_what_vanishes_is_told(self, layout: Layout, save: Save, tmp_path: Path) -> None:
        """A trainer may delete a checkpoint at any moment, which is no fault of the layout."""
        save(tmp_path, 10)
        [candidate] = self.found(layout, tmp_path)
        for path in list(tmp_path.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        told: Exception | None = None
        try:
            layout.inspect(candidate, "live")
        except (NotWhole, NotReadable, Unsupported, OSError) as error:
            told = error
        assert told is not None

    def test_what_is_cut_is_never_whole(self, layout: Layout, save: Save, tmp_path: Path) -> None:
        """With any file of its weights gone or cut short it is not evaluated; then as before."""
        save(tmp_path, 10)
        whole = seen(layout, tmp_path)
        assert isinstance(whole, Whole)
        [candidate] = self.found(layout, tmp_path)
        for file in whole.weights.files:
            path = candidate.root / file.path
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
            assert not isinstance(seen(layout, tmp_path), Whole)
            path.unlink()
            assert seen(layout, tmp_path) != whole
            path.write_bytes(data)
        again = seen(layout, tmp_path)
        assert isinstance(again, Whole)
        assert again.digest == whole.digest


def seen(layout: Layout, output_dir: Path) -> Whole | Partial | Unusable | None:
    """Return what clipwatch makes of the only checkpoint that lies there; None if none does."""
    scanner = Scanner(
        output_dir, weights="live", settle_seconds=0.0, layouts={"the layout": layout}
    )
    found = scanner.scan()
    return found[0].verdict if found else None
