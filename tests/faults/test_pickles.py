"""What comes with a model is data: no pickle is opened, no code is run, wherever it lies."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import clipwatch.evaluator
import evaluator_kit as kit
from clipwatch.demo.models import CLIP, write_base_pipeline
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.executors.messages import Evaluate
from clipwatch.kit.environment import environment

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
NAMES = (
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "pytorch_lora_weights.bin",
    "learned_embeds.bin",
    "training_args.bin",
    "model.ckpt",
    "model.pt",
    "vocab.pkl",
)

pytestmark = [
    # the libraries' own, under versions that disagree with each other
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:peft"),
]


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


class Watch:
    """Notes what Python opens for reading, and unpickles, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.opened: set[str] = set()
        self.unpickled: list[str] = []
        sys.addaudithook(self._note)  # which stays for ever, hence the switch

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "open" and "r" in str(arguments[1]):
            self.opened.add(str(arguments[0]))
        elif self.on and event == "pickle.find_class":
            self.unpickled.append(str(arguments))


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: base and pipeline (whole pipelines), full (the latter's UNet), lora, scorer."""
    folder = tmp_path_factory.mktemp("pristine")
    write_base_pipeline(folder / "base")
    write_base_pipeline(folder / "pipeline", seed=1)
    shutil.copytree(folder / "pipeline" / "unet", folder / "full" / "unet")
    kit.write_lora(folder / "base", folder / "lora")
    shutil.copytree(CLIP, folder / "scorer")
    return folder


@pytest.fixture
def world(pristine: Path, tmp_path: Path, watch: Watch) -> Iterator[Path]:
    """Return a copy to tamper with; afterwards no code has run and no pickle was opened."""
    shutil.copytree(pristine, tmp_path / "world")
    watch.opened.clear()
    watch.on = True
    yield tmp_path / "world"
    watch.on = False
    assert not (tmp_path / "mark").exists()
    assert not [name for name in watch.opened if name.endswith(PICKLED)]
    assert not watch.unpickled


def arm(folder: Path, *, alone: bool) -> None:
    """Lay pickles beside a folder's weights, or in their place, and in all its other folders."""
    bomb = Bomb(folder.parents[1] / "mark")
    zipped = io.BytesIO()
    torch.save(bomb, zipped)
    weights = list(folder.rglob("*.safetensors"))
    folders = {folder, *(path for path in folder.rglob("*") if path.is_dir())}
    paths = {place / name for place in folders for name in NAMES}
    paths |= {path.with_suffix(suffix) for path in weights for suffix in PICKLED}
    for path in paths:
        path.write_bytes(zipped.getvalue() if path.suffix == ".bin" else pickle.dumps(bomb))
    for path in weights if alone else []:
        path.unlink()


def request(world: Path, name: str) -> Evaluate:
    """Return the request for a checkpoint; for base and scorer one that uses them."""
    how = kit.protocol(world / "base", scorers=(ScorerSpec("", str(world / "scorer")),))
    kind = name if name in ("lora", "full", "pipeline") else "full"
    return kit.request(world / kind, kind, how)


def test_the_bombs_go_off(tmp_path: Path) -> None:
    """Opened without care, each of them makes its mark."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    arm(tmp_path / "a" / "b", alone=False)
    for path in (tmp_path / "a" / "b").iterdir():
        if path.suffix == ".bin":
            torch.load(path, weights_only=False)
        else:
            pickle.loads(path.read_bytes())
        (tmp_path / "mark").unlink()


@pytest.mark.parametrize("name", ["full", "lora", "pipeline", "base", "scorer"])
@pytest.mark.thorough
def test_pickles_beside_safetensors_are_left_alone(
    world: Path, pristine: Path, watch: Watch, name: str, evaluator: Evaluator
) -> None:
    """The scores are those without them, and the watch that saw no pickle opened was awake."""
    arm(world / name, alone=False)
    expected = kit.scores_of(evaluator, request(pristine, name))
    assert kit.same(kit.scores_of(evaluator, request(world, name)), expected)
    assert any(name.startswith(str(world)) for name in watch.opened)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("full", "weights", "has no safetensors weights"),
        ("lora", "weights", "has no safetensors weights"),
        ("pipeline", "weights", "has no safetensors weights"),
        ("pipeline/vae", "weights", "cannot be loaded as a pipeline: "),
        ("pipeline/text_encoder", "weights", "cannot be loaded as a pipeline: "),
        ("base", "model", "base model"),
        ("base/unet", "model", "base model"),
        ("base/text_encoder", "model", "base model"),
        ("scorer", "model", "has no safetensors weights"),
    ],
)
@pytest.mark.thorough(but=1)
def test_pickles_alone_are_no_weights(
    world: Path, name: str, kind: str, words: str, evaluator: Evaluator
) -> None:
    """Where there is nothing else, that is said, and it is no score."""
    arm(world / name, alone=True)
    failed = kit.failure(evaluator, request(world, name.partition("/")[0]))
    assert (failed.kind, words in failed.reason) == (kind, True), failed


@pytest.mark.thorough
def test_a_decoy_opens_no_pickle(world: Path, evaluator: Evaluator) -> None:
    """Safetensors that are not the scorer's weights do not make its pickle readable."""
    shutil.copy(world / "scorer" / "model.safetensors", world / "decoy")
    arm(world / "scorer", alone=True)
    (world / "decoy").rename(world / "scorer" / "decoy.safetensors")
    failed = kit.failure(evaluator, request(world, "scorer"))
    assert (failed.kind, "model.safetensors" in failed.reason) == ("model", True), failed


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    ("name", "weights", "kind"),
    [
        ("pipeline", "unet/diffusion_pytorch_model", "weights"),
        ("pipeline", "text_encoder/model", "weights"),
        ("base", "unet/diffusion_pytorch_model", "model"),
        ("scorer", "model", "model"),
    ],
)
def test_shards_that_are_pickles_are_refused(
    world: Path, name: str, weights: str, kind: str, evaluator: Evaluator
) -> None:
    """An index of safetensors shards that names a pickle is not followed."""
    path = world / name / f"{weights}.safetensors"
    shard = path.with_name("shard-00001-of-00001.bin")
    path.rename(path.with_name("decoy.safetensors"))
    torch.save(Bomb(world.parent / "mark"), shard)
    index = {"metadata": {"total_size": 1}, "weight_map": {"conv_in.bias": shard.name}}
    Path(f"{path}.index.json").write_text(json.dumps(index))
    failed = kit.failure(evaluator, request(world, name))
    assert (failed.kind, f"names {shard.name}: only safetensors" in failed.reason) == (kind, True)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["pipeline", "base"])
def test_shards_behind_a_link_are_looked_at_too(
    world: Path, evaluator: Evaluator, name: str
) -> None:
    """A part of a pipeline may lie elsewhere."""
    part = world / name / "text_encoder"
    part.rename(world / "elsewhere")
    part.symlink_to(world / "elsewhere")
    (world / "elsewhere" / "model.safetensors").rename(world / "elsewhere" / "decoy.safetensors")
    torch.save(Bomb(world.parent / "mark"), part / "shard.bin")
    index = {"metadata": {"total_size": 1}, "weight_map": {"conv_in.bias": "shard.bin"}}
    (part / "model.safetensors.index.json").write_text(json.dumps(index))
    failed = kit.failure(evaluator, request(world, name))
    assert "names shard.bin: only safetensors" in failed.reason


# --- code ----------------------------------------------------------------------------------------


def strange(path: Path) -> None:
    """Write a module that leaves a mark when it is imported."""
    mark = next(parent for parent in path.parents if parent.name == "world").parent / "mark"
    path.write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
        "from diffusers import StableDiffusionPipeline, UNet2DConditionModel\n"
        "from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer\n"
        "class Strange(CLIPConfig): model_type = 'strange'\n"
    )


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["pipeline", "base"])
@pytest.mark.parametrize(
    ("part", "named", "module"),
    [
        ("_class_name", ["strange", "StableDiffusionPipeline"], "strange.py"),
        ("unet", ["strange", "UNet2DConditionModel"], "unet/strange.py"),
        ("unet", ["strange", "UNet2DConditionModel"], "../onpath/strange.py"),
        ("unet", ["subprocess", "Popen"], ""),
        ("scheduler", ["os", "system"], ""),
        ("tokenizer", ["builtins", "exec"], ""),
        ("extra", ["antigravity", "fly"], ""),
        ("vae", ["__path__", "append"], ""),
    ],
)
@pytest.mark.thorough(but=1)
def test_foreign_classes_are_refused(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluator: Evaluator,
    name: str,
    part: str,
    named: list[str],
    module: str,
) -> None:
    """Nothing that an index names is imported or called but diffusers' and transformers' own."""
    (world / "onpath").mkdir()
    monkeypatch.syspath_prepend(str(world / "onpath"))
    if module:
        strange((world / name / module).resolve())
    edit(world / name / "model_index.json", **{part: named})
    failed = kit.failure(evaluator, request(world, name))
    assert failed.kind == ("weights" if name == "pipeline" else "model")
    assert f"model_index.json has {named} as {part}" in failed.reason
    assert "never run" in failed.reason


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("library", ["diffusers", "stable_diffusion"])
@pytest.mark.parametrize("name", ["pipeline", "base"])
def test_no_pipeline_is_read_within_a_pipeline(
    world: Path, evaluator: Evaluator, name: str, library: str
) -> None:
    """What its folder holds would be loaded without a word on the format."""
    inner = world / name / "unet"
    shutil.rmtree(inner)
    shutil.copytree(world / "base" if name == "pipeline" else world / "pipeline", inner)
    weights = inner / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    edit(world / name / "model_index.json", unet=[library, "StableDiffusionPipeline"])
    failed = kit.failure(evaluator, request(world, name))
    assert "as unet, a whole pipeline" in failed.reason


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("module", "words", "changes"),
    [
        ("base/None.py", "contains custom code", {}),
        ("base/unet/diffusers.py", "contains custom code", {}),
        (
            "base/tokenizer/strange.py",
            "does not seem to have any of the loading methods",
            {
                "base/model_index.json": {"tokenizer": ["transformers", "AutoTokenizer"]},
                "base/tokenizer/tokenizer_config.json": {
                    "tokenizer_class": "Strange",
                    "auto_map": {"AutoTokenizer": ["strange.CLIPTokenizer", None]},
                },
            },
        ),
        (
            "base/text_encoder/strange.py",
            "does not seem to have any of the loading methods",
            {
                "base/model_index.json": {"text_encoder": ["transformers", "AutoModel"]},
                "base/text_encoder/config.json": {
                    "model_type": "strange",
                    "auto_map": {
                        "AutoConfig": "strange.Strange",
                        "AutoModel": "strange.CLIPTextModel",
                    },
                },
            },
        ),
    ],
)
def test_code_in_the_folder_of_a_model_is_not_run(
    world: Path,
    evaluator: Evaluator,
    module: str,
    words: str,
    changes: dict[str, dict[str, Any]],
) -> None:
    """What asks for code of its own is refused, in words that say why."""
    strange(world / module)
    for path, keys in changes.items():
        edit(world / path, **keys)
    failed = kit.failure(evaluator, request(world, module.partition("/")[0]))
    assert (failed.kind, words in failed.reason) == ("model", True), failed


@pytest.mark.thorough
def test_code_that_nothing_needs_is_ignored(world: Path, evaluator: Evaluator) -> None:
    """Modules beside the models, and maps to classes in place of those of transformers."""
    expected = kit.scores_of(evaluator, request(world, "pipeline"))
    for place in ("pipeline", "pipeline/unet", "pipeline/scheduler", "scorer", "base"):
        for module in ("pipeline.py", "modeling.py", "__init__.py", "conftest.py"):
            strange(world / place / module)
    edit(world / "pipeline/model_index.json", custom_pipeline="pipeline")
    own = {"tokenizer_class": "Strange", "auto_map": {"AutoTokenizer": ["modeling.Strange", None]}}
    edit(world / "scorer/tokenizer_config.json", **own)
    mapped = {"AutoConfig": "modeling.Strange", "AutoModel": "modeling.CLIPModel"}
    for path in ("scorer/config.json", "pipeline/text_encoder/config.json"):
        edit(world / path, auto_map=mapped)
    again = Evaluator()  # which reads all of it once more
    assert kit.same(kit.scores_of(again, request(world, "pipeline")), expected)


def test_nobody_is_asked_whether_to_trust() -> None:
    """In all calls of libraries the permission is denied or not given."""
    folder = Path(os.fspath(clipwatch.evaluator.__path__[0]))
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py")]
    given = [
        ast.unparse(node.value)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
    ]
    assert set(given) == {"False"}


def test_the_evaluators_process_unpickles_nothing(tmp_path: Path) -> None:
    """Even a library that asks torch for it gets no more than tensors in its environment."""
    torch.save(Bomb(tmp_path / "mark"), tmp_path / "bomb.bin")
    code = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    command = [sys.executable, "-c", code, str(tmp_path / "bomb.bin")]
    scrubbed = environment(os.environ, 1)
    done = subprocess.run(command, env=scrubbed, capture_output=True, text=True, check=False)
    assert "UnpicklingError" in done.stderr
    assert not (tmp_path / "mark").exists()
