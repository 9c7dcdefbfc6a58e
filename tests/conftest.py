"""Fixtures that several files share. Heavy modules are imported only by who asks for them."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import is_hypothesis_test, settings

from clipwatch.demo import models
from examples import FULL
from real_world import PROMPTS, write_config

if TYPE_CHECKING:
    from browser import Page
    from clipwatch.evaluator.evaluate import Evaluator
    from fake_wandb import FakeWandb
    from mlflow_kit import Server as MlflowServer
    from results_kit import Log

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's: each test has a core, as here run many

# no deadline, for machines may be busy; the same examples on all, so that failures are repeated
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("full", deadline=None, derandomize=True, max_examples=FULL)
settings.load_profile("quick")  # --hypothesis-profile=full


def pytest_sessionstart() -> None:
    """Look for no garbage while tests and what they import are read; see `importing`."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Nor ever among what was."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder, and by when it runs: `quick`, `rest`, or with both.

    What is `thorough` is left to the rest, but for the number of cases that it names, of a test
    or of a whole class. Properties are held twice, with examples by the profile.
    """
    cases: dict[object, list[pytest.Item]] = {}
    for item in items:
        folder = item.path.parent.name
        item.add_marker(folder)
        if folder == "system":
            item.add_marker("rest")
        elif marked := next(item.iter_markers_with_node("thorough"), None):
            whole = isinstance(marked[0], pytest.Class)
            alike = marked[0] if whole else getattr(item, "function", item)
            cases.setdefault(alike, []).append(item)
        else:
            item.add_marker("quick")
            if is_hypothesis_test(getattr(item, "function", None)):
                item.add_marker("rest")
    for found in cases.values():
        thorough = found[0].get_closest_marker("thorough")
        kept = thorough.kwargs.get("but", 0) if thorough else 0
        quick = {len(found) * n // kept for n in range(kept)}  # spread over all
        for place, item in enumerate(found):
            item.add_marker("quick" if place in quick else "rest")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what of the rest was not begun by REST_UNTIL (Unix time): CI gives no more."""
    until = float(os.environ.get("REST_UNTIL", "inf"))
    if item.get_closest_marker("rest") and time.time() > until:
        pytest.skip("the time for the rest of the tests is over")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny base pipeline."""
    folder = tmp_path_factory.mktemp("base") / "base"
    models.write_base_pipeline(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, base: Path) -> Path:
    """Return a folder with a config.json; the trainer's TensorBoard run stands already."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    (tmp_path / "output/logs/shapes").mkdir(parents=True)
    (tmp_path / "output/logs/shapes/events.out.tfevents.1.host").touch()
    config = {
        "--output_dir": "output",
        "--evaluation_type": "clip",
        "--report_to": "tensorboard,wandb",
        "--tracker_project_name": "shapes",
        "--model_family": "sd1x",
        "--pretrained_model_name_or_path": str(base),
        "--pretrained_evaluation_model_name_or_path": str(models.CLIP),
        "--validation_resolution": "32x32",
        "--validation_num_inference_steps": "2",
        "--num_validation_images": "2",
        "clipwatch": {
            "prompts": "prompts.txt",
            "device": "cpu",
            "batch_size": 3,
            "baseline": False,
            "state_dir": "state",
            "settle_seconds": 0.5,
            "rescan_seconds": 0.5,
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a base pipeline and a good checkpoint of each kind."""
    import evaluator_kit

    return evaluator_kit.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    """Return an evaluator that keeps its models from test to test."""
    from clipwatch.evaluator.evaluate import Evaluator

    return Evaluator()


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeWandb]:
    """Run a W&B server on loopback, and hide the machine's own key from the test."""
    from wandb_world import serve

    with serve(monkeypatch, tmp_path_factory.mktemp("home")) as fake:
        yield fake


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Run an MLflow server on loopback for all tests of a worker: it takes long to start."""
    from mlflow_kit import serve

    with serve(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def mlflow(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """Return it, with its address and nothing else of MLflow's in the environment."""
    from mlflow_kit import isolate

    isolate(monkeypatch, mlflow_server.url)
    return mlflow_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a config.json, an output directory and no checkpoint."""
    (tmp_path / "base").mkdir()
    (tmp_path / "output").mkdir()
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    write_config(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """Return a page of a browser, if there is one; CI, which installs one, must have it."""
    from browser import browse, program

    if (binary := program()) is None:
        lacks = pytest.fail if "BROWSER_REQUIRED" in os.environ else pytest.skip
        lacks("no browser; Debian has chromium-headless-shell")
    with browse(binary) as page:
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        yield page


@pytest.fixture(scope="module")
def file(log: Log) -> Path:
    """Return the page of `clipwatch report` that a module's log makes."""
    from results_kit import call

    assert call(log.folder, "report", "-o", str(log.folder / "page.html")).exit_code == 0
    return log.folder / "page.html"


@pytest.fixture
def opened(page: Page, file: Path) -> Iterator[Page]:
    """Return a browser that shows it; what the page did meanwhile was in order."""
    from page_kit import in_order, load

    load(page, file)
    yield page
    in_order(page, file.parent)
