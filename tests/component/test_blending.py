"""The average of checkpoints is exact, whatever form they have; what is no average is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import adapter_kit
import evaluator_kit as kit
from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import CheckpointKind
from clipwatch.evaluator.generation import adapters
from clipwatch.kit.errors import CheckpointError
from clipwatch.layouts.header import read_header
from clipwatch.tasks.blending import KEY, Source, blend
from clipwatch.tasks.tensorfile import TensorFile, as_bytes

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:peft"),
]

State = dict[str, torch.Tensor]
SHARES = (0.5, 0.75, -0.25)


def source(folder: Path, share: float) -> Source:
    """Return a checkpoint as it lies there, PEFT's config among its files."""
    files = kit.weight_files(folder)
    if (config := folder / "adapter_config.json").exists():
        at = config.stat()
        files += (WeightFile(config.name, at.st_size, at.st_mtime_ns, at.st_ino),)
    return Source(folder.name, folder, files, share)


def made(
    folder: Path,
    sources: list[Source],
    kind: CheckpointKind = "lora",
    alpha: float | None = None,
) -> Path:
    """Blend; return the one file of weights."""
    files = blend(sources, kind, folder / "blend", {"shares": "told"}, alpha)
    found = [it.path for it in files if it.path.endswith(".safetensors")]
    assert len(found) == 1
    return folder / "blend" / found[0]


def written(folder: Path, state: State, metadata: dict[str, str] | None = None) -> Path:
    """Write a checkpoint of one file."""
    folder.mkdir(parents=True)
    save_file(state, folder / adapter_kit.LORA, metadata)
    return folder


# --- LoRA ----------------------------------------------------------------------------------------


def dense(state: State, module: str, form: str, alpha: float | None) -> torch.Tensor:
    """Return what a module adds to a weight: alpha / rank times B A."""
    down, up = ("lora_down", "lora_up") if form == "kohya" else ("lora_A", "lora_B")
    a, b = (state[f"{module}.{part}.weight"].double() for part in (down, up))
    told = state.get(f"{module}.alpha")
    scale = (a.shape[0] if alpha is None else alpha) if told is None else float(told)
    product = b.flatten(1) @ a.flatten(1)
    return product.reshape(b.shape[0], *a.shape[1:]) * scale / a.shape[0]


@st.composite
def loras(draw: st.DrawFn) -> tuple[str, list[State], list[float], float | None]:
    """Draw LoRAs of a linear layer and a convolution, with ranks of their own, and shares."""
    form = draw(st.sampled_from(["kohya", "plain", "told"]))
    alpha = draw(st.sampled_from([3.0, 16.0])) if form == "told" else None
    noise = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    count, alike = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    names = ("lora_unet_a", "lora_unet_b") if form == "kohya" else ("unet.a", "unet.b")
    down, up = ("lora_down", "lora_up") if form == "kohya" else ("lora_A", "lora_B")
    states = []
    for _ in range(count):
        state: State = {}
        for name, inside in zip(names, ((5,), (3, 3, 3)), strict=True):
            rank = alike if form == "told" else draw(st.integers(1, 6))
            ones = (1,) * (len(inside) - 1)
            state[f"{name}.{down}.weight"] = torch.randn((rank, *inside), generator=noise)
            state[f"{name}.{up}.weight"] = torch.randn((7, rank, *ones), generator=noise)
            if form == "kohya":
                state[f"{name}.alpha"] = torch.tensor(draw(st.sampled_from([1.0, 4.0, 6.5])))
        states.append(state)
    shares = [draw(st.sampled_from([0.2, 0.5, 1.0, -0.25])) for _ in states]
    shares[0] += 1.0
    return form, states, [it / sum(shares) for it in shares], alpha


@given(loras())
@settings(deadline=None)
def test_the_change_of_the_weights_is_averaged(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: tuple[str, list[State], list[float], float | None],
) -> None:
    """Not the halves: sum of share times alpha over rank times B A, with whatever ranks and alphas.

    Read again with its own alphas, and by who takes the rank for alpha where none is told.
    """
    form, states, shares, alpha = drawn
    folder = tmp_path_factory.mktemp("loras")
    folders = [written(folder / str(n), it) for n, it in enumerate(states)]
    sources = [source(it, share) for it, share in zip(folders, shares, strict=True)]
    found = load_file(made(folder, sources, alpha=alpha))
    for module in ("lora_unet_a", "lora_unet_b") if form == "kohya" else ("unet.a", "unet.b"):
        wanted = sum(
            share * dense(it, module, form, alpha) for share, it in zip(shares, states, strict=True)
        )
        assert isinstance(wanted, torch.Tensor)
        torch.testing.assert_close(dense(found, module, form, None), wanted, atol=1e-4, rtol=1e-5)
    assert any(name.endswith(".alpha") for name in found) == (form != "plain")


@cache
def lora(base: Path, seed: int) -> tuple[State, dict[str, Any]]:
    """Return an adapter, trained once."""
    return adapter_kit.unet_lora(base, seed)


@pytest.fixture(scope="module")
def pipeline(base: Path) -> Any:
    """Return the base's pipeline."""
    return StableDiffusionPipeline.from_pretrained(base)


@pytest.fixture(scope="module")
def bare(pipeline: Any) -> list[torch.Tensor]:
    """Return its weights in LAYERS."""
    return [adapter_kit.weight_of(pipeline.unet, it) for it in adapter_kit.LAYERS]


@pytest.mark.parametrize("form", adapter_kit.FORMS)
def test_each_form_acts_as_the_average_does(
    form: str, base: Path, pipeline: Any, bare: list[torch.Tensor], tmp_path: Path
) -> None:
    """Put into the pipeline by the evaluator, a blend changes layers as its parts do together."""
    wanted = [torch.zeros_like(it) for it in bare]
    sources = []
    for seed, share in enumerate(SHARES, start=1):
        state, config = lora(base, seed)
        path = adapter_kit.written(form, tmp_path / f"{seed}/{adapter_kit.LORA}", state, config)
        sources.append(source(path.parent, share))
        found = changes(pipeline, path, bare)
        wanted = [total + share * it for total, it in zip(wanted, found, strict=True)]
    found = changes(pipeline, made(tmp_path, sources), bare)
    assert any(it.abs().max() > 0.01 for it in found)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def changes(pipeline: Any, path: Path, bare: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return what a file changes in each of LAYERS."""
    config = path.parent / "adapter_config.json"
    beside = [config] if config.exists() else []
    adapter = adapters.apply(pipeline, path, *beside, alpha=None)
    now = [adapter_kit.weight_of(pipeline.unet, it) for it in adapter_kit.LAYERS]
    adapter.remove()
    return [one - other for one, other in zip(now, bare, strict=True)]


def test_pefts_own_folder_gets_a_config_for_the_blend(
    base: Path, pipeline: Any, bare: list[torch.Tensor], tmp_path: Path
) -> None:
    """With exceptions by module and rslora; the blend's has its rank, and no exceptions."""
    sources, wanted = [], [torch.zeros_like(it) for it in bare]
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "use_rslora": True}
    told["alpha_pattern"] = {"attn1.to_q": 11}
    for seed, share in enumerate((0.25, 0.75), start=1):
        state, _ = lora(base, seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        names = {f"base_model.model.{name}": it for name, it in state.items()}
        save_file(names, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(told))
        sources.append(source(folder, share))
        found = changes(pipeline, folder / "adapter_model.safetensors", bare)
        wanted = [total + share * it for total, it in zip(wanted, found, strict=True)]
    blended = made(tmp_path, sources)
    config = json.loads((blended.parent / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 8)
    assert (config["alpha_pattern"], config["use_rslora"]) == ({}, False)
    for one, other in zip(changes(pipeline, blended, bare), wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_an_alpha_that_only_a_setting_tells_is_written_where_others_are_told(
    tmp_path: Path,
) -> None:
    """The config speaks of one component: the blend's other one would get the setting's alpha."""
    noise = torch.Generator().manual_seed(0)
    config = {"unet.lora_alpha": 4.0, "unet.r": 2}
    states, folders = [], []
    for name in "ab":
        state: State = {}
        for module in ("unet.a", "text_encoder.b"):
            state[f"{module}.lora_A.weight"] = torch.randn((2, 3), generator=noise)
            state[f"{module}.lora_B.weight"] = torch.randn((4, 2), generator=noise)
        metadata = {"lora_adapter_metadata": json.dumps(config)}
        folders.append(written(tmp_path / name, state, metadata))
        states.append(state)
    path = made(tmp_path, [source(it, 0.5) for it in folders], alpha=16.0)
    found = load_file(path)
    for module, alpha in (("unet.a", 4.0), ("text_encoder.b", 16.0)):
        wanted = sum(0.5 * dense(it, module, "plain", alpha) for it in states)
        assert isinstance(wanted, torch.Tensor)
        torch.testing.assert_close(
            dense(found, module, "plain", None), wanted, atol=1e-4, rtol=1e-5
        )
    assert [it for it in found if it.endswith("alpha")] == ["text_encoder.b.alpha"]


def test_metadata_tell_of_the_blend_and_nothing_untrue(tmp_path: Path) -> None:
    """Digests and steps of a source are left out, the rank is the blend's."""
    state = {"lora_unet_a.lora_down.weight": torch.ones(2, 3), "lora_unet_a.alpha": torch.ones(())}
    state["lora_unet_a.lora_up.weight"] = torch.ones(4, 2)
    old = {"sshs_model_hash": "1", "ss_steps": "7", "ss_network_dim": "2", "ss_network_alpha": "1"}
    old |= {"global_step": "7", "modelspec.hash_sha256": "1"}  # as SimpleTuner and sd-scripts do
    folders = [written(tmp_path / name, state, {**old, "modelspec.title": "t"}) for name in "ab"]
    path = made(tmp_path, [source(it, 0.5) for it in folders])
    assert read_header(path).metadata == {
        "modelspec.title": "t",
        "ss_network_dim": "4",
        "ss_network_alpha": "4",
        KEY: json.dumps({"shares": "told"}),
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_files_with_names_of_their_own_become_one(tmp_path: Path) -> None:
    """As kohya saves them, all in one folder; nothing beside them is copied."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output/config.json").write_text("{}")
    state = {"lora_unet_a.lora_down.weight": torch.ones(2, 3)}
    state["lora_unet_a.lora_up.weight"] = torch.ones(4, 2)
    sources = []
    for number in (1, 2):
        path = tmp_path / f"output/x-00000{number}.safetensors"
        save_file(state, path)
        at = path.stat()
        file = WeightFile(path.name, at.st_size, at.st_mtime_ns, at.st_ino)
        sources.append(Source(path.name, path.parent, (file,), 0.5))
    path = made(tmp_path, sources)
    assert [it.name for it in path.parent.iterdir()] == ["blend.safetensors"]


# --- weights in full -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_in_full_are_averaged_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    """And saved in their own type, rounded once; whole numbers stay, and so does the config."""
    noise = torch.Generator().manual_seed(0)
    states, sources = [], []
    for number, share in enumerate(SHARES):
        folder = tmp_path / f"checkpoint-{number}/unet"
        folder.mkdir(parents=True)
        state = {"w": torch.randn(9, 7, generator=noise).to(dtype), "ids": torch.arange(3)}
        state["b"] = torch.randn((), generator=noise).to(dtype)
        save_file(state, folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text('{"a": 1}')
        (folder.parent / "config.json").write_text("not of the weights")
        states.append(state)
        sources.append(source(folder.parent, share))
    path = made(tmp_path, sources, "full")
    found = load_file(path)
    for name in ("w", "b"):
        wanted = torch.zeros(states[0][name].shape)
        for share, state in zip(SHARES, states, strict=True):
            wanted += torch.tensor(share) * state[name].float()
        assert torch.equal(found[name], wanted.to(dtype))
    assert torch.equal(found["ids"], torch.arange(3))
    assert (path.parent / "config.json").read_text() == '{"a": 1}'
    assert not (path.parent.parent / "config.json").exists()


def test_several_files_stay_several(tmp_path: Path) -> None:
    """Shards, with the index that names them."""
    for number in (1, 2):
        folder = tmp_path / f"checkpoint-{number}/transformer"
        folder.mkdir(parents=True)
        for shard in "ab":
            save_file({shard: torch.full((2,), float(number))}, folder / f"{shard}.safetensors")
        (folder / "x.safetensors.index.json").write_text("{}")
    sources = [source(tmp_path / f"checkpoint-{it}", 0.5) for it in (1, 2)]
    files = blend(sources, "full", tmp_path / "blend", {})
    assert [it.path for it in files] == ["transformer/a.safetensors", "transformer/b.safetensors"]
    for it in files:
        path = tmp_path / "blend" / it.path
        assert it.size == path.stat().st_size
        assert load_file(path)[path.stem].tolist() == [1.5, 1.5]
    assert (tmp_path / "blend/transformer/x.safetensors.index.json").exists()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_types_are_rounded_as_torch_rounds(values: list[float]) -> None:
    """To the nearest, to even where it lies between; what has no number there is refused."""
    floats = np.array(values, np.float32)
    for name, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)):
        wanted = torch.from_numpy(floats).to(dtype)
        if not wanted.isfinite().all():
            with pytest.raises(ValueError, match="NaN or infinity"):
                as_bytes(floats, name)
            continue
        assert as_bytes(floats, name) == wanted.view(torch.uint8).numpy().tobytes()


def test_a_file_is_what_safetensors_itself_reads(tmp_path: Path) -> None:
    """Types that lie at odd places are put where they may; one tensor is read by itself."""
    mixed = {"a": torch.ones(3, dtype=torch.bfloat16), "b": torch.ones(2), "c": torch.ones(0)}
    mixed["d"] = torch.ones(3, dtype=torch.uint8)
    for name in "xy":
        written(tmp_path / name, mixed)
    path = made(tmp_path, [source(tmp_path / it, 0.5) for it in "xy"], "full")
    with safe_open(path, framework="pt") as file:
        assert all(torch.equal(file.get_tensor(name), it) for name, it in mixed.items())
    assert all(it.begin % {"F32": 4, "BF16": 2}.get(it.dtype, 1) == 0
               for it in TensorFile(path).entries.values())  # fmt: skip


# --- refusals ------------------------------------------------------------------------------------

LORA: State = {"unet.a.lora_A.weight": torch.ones(2, 3), "unet.a.lora_B.weight": torch.ones(4, 2)}
FULL: State = {"w": torch.ones(2), "v": torch.ones(2)}


@pytest.mark.parametrize(
    ("kind", "other", "said"),
    [
        ("lora", {k.replace(".a.", ".b."): v for k, v in LORA.items()}, "not for the same modules"),
        ("lora", {**LORA, "unet.a.lora_A.weight": torch.ones(2, 5)}, "unet.a is of another shape"),
        ("lora", {**LORA, "unet.a.lora_magnitude_vector": torch.ones(4)}, "it is a DoRA"),
        ("lora", {**LORA, "learned_token": torch.ones(4)}, "it is more than a LoRA"),
        ("lora", {"unet.a.lora_A.weight": torch.ones(2, 3)}, "only half of unet.a"),
        ("lora", {**LORA, "unet.a.lora_A.weight": torch.ones(2)}, "no product of two matrices"),
        ("lora", {k: v[:0] if "_A" in k else v[:, :0] for k, v in LORA.items()}, "of rank 0"),
        ("full", {"w": torch.ones(2)}, "has not the same tensors, as v"),
        ("full", {**FULL, "w": torch.ones(3)}, "w has another shape"),
        ("full", {**FULL, "w": torch.ones(2, dtype=torch.int8)}, "quantised"),
        ("full", {**FULL, "w": torch.tensor([1.0, torch.nan])}, "w: it holds NaN"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_what_cannot_be_averaged_is_refused(
    kind: CheckpointKind, other: State, said: str, tmp_path: Path
) -> None:
    """In one line that names it; no blend is left."""
    written(tmp_path / "a", LORA if kind == "lora" else FULL)
    written(tmp_path / "b", other)
    for pair in ("ab", "ba"):
        with pytest.raises(CheckpointError, match=said) as error:
            made(tmp_path, [source(tmp_path / it, 0.5) for it in pair], kind)
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "blend").glob("*.safetensors"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    """One has a shard more."""
    for name in "ab":
        written(tmp_path / name, FULL)
    for name in ("x", "y"):
        save_file(FULL, tmp_path / f"b/{name}.safetensors")
    with pytest.raises(CheckpointError, match="b has other files than a"):
        made(tmp_path, [source(tmp_path / it, 0.5) for it in "ab"], "full")


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "{", '{"alpha_pattern": 1}'])
def test_a_config_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    """Whatever stands there; it tells alphas, and is copied."""
    for name in "ab":
        written(tmp_path / name, LORA)
        (tmp_path / name / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be averaged"):
        made(tmp_path, [source(tmp_path / it, 0.5) for it in "ab"])


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    """Though a log of another machine may name any file."""
    written(tmp_path / "a", FULL)
    at = (tmp_path / "a" / adapter_kit.LORA).stat()
    for names in ([f"../a/{adapter_kit.LORA}"], [adapter_kit.LORA, f"../a/{adapter_kit.LORA}"]):
        files = tuple(WeightFile(it, at.st_size, at.st_mtime_ns, at.st_ino) for it in names)
        known = Source("a", tmp_path / "a", files, 1.0)
        if len(names) == 1:
            assert made(tmp_path, [known], "full").name == "blend.safetensors"
        else:
            with pytest.raises(CheckpointError, match="other files"):
                made(tmp_path, [known], "full")
    assert {it.name for it in tmp_path.iterdir()} == {"a", "blend"}


def test_tokens_beside_a_lora_are_refused(tmp_path: Path) -> None:
    """As words cannot be averaged."""
    for name in "ab":
        written(tmp_path / name, LORA)
        save_file({"t": torch.ones(2)}, tmp_path / name / "tokens.safetensors")
    with pytest.raises(CheckpointError, match="learned tokens"):
        made(tmp_path, [source(tmp_path / it, 0.5) for it in "ab"])


def test_what_was_rotated_away_is_told(tmp_path: Path) -> None:
    """Gone, written again, or cut."""
    for name in "ab":
        written(tmp_path / name, LORA)
    sources = [source(tmp_path / it, 0.5) for it in "ab"]
    (tmp_path / "a" / adapter_kit.LORA).unlink()
    with pytest.raises(CheckpointError, match=r"a is gone from .* call it again"):
        made(tmp_path, sources)
    file = TensorFile(tmp_path / "b" / adapter_kit.LORA)
    (tmp_path / "b" / adapter_kit.LORA).write_bytes(b"")
    with pytest.raises(CheckpointError, match="was cut"):
        file.raw("unet.a.lora_A.weight")
    with pytest.raises(CheckpointError, match=r"not whole|no valid"):
        TensorFile(tmp_path / "b" / adapter_kit.LORA)
