"""Which checkpoints are seen, and when they count as complete."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.domain.sighting import Partial, Unusable, Whole
from clipwatch.layouts import look_once
from clipwatch.layouts.files import content_digest, stat
from layout_kit import (
    LORA,
    MODEL,
    Clock,
    full,
    index,
    look,
    simpletuner,
    weights,
)


def test_a_guarded_simpletuner_checkpoint_is_complete_at_once(tmp_path: Path) -> None:
    """`.guard` decides: with it the LoRA is whole, without it it is not, whatever the files say."""
    simpletuner(tmp_path / "checkpoint-100")
    simpletuner(tmp_path / "checkpoint-200-rolling")
    simpletuner(tmp_path / "checkpoint-300", guard=False)
    simpletuner(tmp_path / "checkpoint-400-tmp")
    seen = look(tmp_path)
    assert list(seen) == ["checkpoint-300", "checkpoint-200-rolling", "checkpoint-100"]
    whole = seen["checkpoint-100"].verdict
    assert isinstance(whole, Whole)
    assert (whole.weights.kind, [file.path for file in whole.weights.files]) == ("lora", [LORA])
    assert seen["checkpoint-200-rolling"].step == 200
    assert isinstance(seen["checkpoint-300"].verdict, Partial)
    assert "no .guard" in seen["checkpoint-300"].verdict.reason


def test_cut_files_and_missing_shards_are_not_whole(tmp_path: Path) -> None:
    """A file shorter than its header says and an index without its shards keep waiting."""
    folder = simpletuner(tmp_path / "checkpoint-1")
    os.truncate(folder / LORA, (folder / LORA).stat().st_size - 1)
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    sharded = tmp_path / "checkpoint-2"
    weights(sharded / "transformer" / names[0], a=4)
    (sharded / ".guard").write_text("complete\n")
    seen = look(tmp_path)
    assert "not whole" in str(seen["checkpoint-1"].verdict)
    assert "no index" in str(seen["checkpoint-2"].verdict)
    index(sharded / "transformer", {"a": names[0], "b": names[1]})
    assert "is not there yet" in str(look(tmp_path)["checkpoint-2"].verdict)
    weights(sharded / "transformer" / names[1], b=4)
    (sharded / ".guard").write_text("complete\n")
    whole = look(tmp_path)["checkpoint-2"].verdict
    assert isinstance(whole, Whole)
    assert [file.path for file in whole.weights.files] == [f"transformer/{n}" for n in names]


@pytest.mark.parametrize(
    ("files", "word"),
    [
        (["controlnet/config.json"], "ControlNet"),
        (["unet/config.json", "sdnq/transformer_training.pt"], "SDNQ"),
        (["language_model/" + MODEL], "language_model/"),
        (["split_files/diffusion_models/" + MODEL], "split_files/"),
        (["pytorch_model_fsdp_0/x.distcp"], "FSDP"),
        (["pytorch_model/mp_rank_00.pt", "latest"], "DeepSpeed"),
        (["pytorch_lora_weights.bin"], "pickle"),
        (["unet/config.json", "unet/diffusion_pytorch_model.bin"], "pickle"),
        (["model.safetensors", "random_states_0.pkl"], "accelerate"),
    ],
)
def test_what_cannot_be_evaluated_is_named(tmp_path: Path, files: list[str], word: str) -> None:
    """Each unsupported kind is discarded with its name in the reason."""
    for name in (*files, ".guard"):
        path = tmp_path / "checkpoint-5" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    verdict = look(tmp_path)["checkpoint-5"].verdict
    assert isinstance(verdict, Unusable)
    assert verdict.kind == "unsupported"
    assert word in verdict.reason


def test_an_adapter_s_stranger_is_told_with_file_and_tensor(tmp_path: Path) -> None:
    """Of the live weights and of the averaged ones."""
    pair = {"unet.a.lora_A.weight": 1, "unet.a.lora_B.weight": 1}
    path = tmp_path / "checkpoint-5" / LORA
    weights(path, **pair)
    weights(path.parent / "ema" / LORA, **pair, **{"unet.junk": 1})
    told = look_once(path.parent, "ema").verdict
    assert isinstance(told, Unusable)
    assert told.reason.startswith(f"ema/{LORA}: it holds 1 tensor of no form that is known, as un")
    path.unlink()
    (path.parent / "ema" / LORA).rename(path)
    told = look_once(path.parent, "live").verdict
    assert isinstance(told, Unusable)
    assert told.reason.startswith(f"{LORA}: it holds 1 tensor of no form that is known, as unet.j")


def test_a_lycoris_file_in_disguise_is_told_by_its_metadata(tmp_path: Path) -> None:
    """LyCORIS and ControlNet adapters carry a LoRA's file name."""
    folder = simpletuner(tmp_path / "checkpoint-5")
    tensors = {"lycoris_mid_block_proj_in.lora_up.weight": np.ones(2)}
    save_file(tensors, folder / LORA, metadata={"lycoris_config": "{}"})
    (folder / ".guard").write_text("complete\n")
    seen = look(tmp_path)["checkpoint-5"].verdict
    assert isinstance(seen, Whole)
    assert (seen.weights.kind, [it.path for it in seen.weights.files]) == ("lycoris", [LORA])
    weights(folder / LORA, **{"controlnet.lora_A.weight": 2})
    assert "ControlNet" in str(look(tmp_path)["checkpoint-5"].verdict)


def test_ema_weights_are_found_where_the_trainers_put_them(tmp_path: Path) -> None:
    """Full: <component>_ema/; adapters: ema/; none: discarded with what to do."""
    lora = simpletuner(tmp_path / "checkpoint-1")
    weights(lora / "ema" / LORA, 3.0)
    (lora / ".guard").write_text("complete\n")
    trained = full(tmp_path / "checkpoint-2")
    weights(trained / "unet_ema" / MODEL, 2.0, w=64)
    (trained / ".guard").write_text("complete\n")
    simpletuner(tmp_path / "checkpoint-3")
    network = simpletuner(tmp_path / "checkpoint-4")
    for name in (LORA, "ema/ema_model.safetensors"):
        weights(network / name, **{"lycoris_a.lokr_w1": 4})
    shards = ["diffusion_pytorch_model-00001-of-00001.safetensors"]
    weights(full(tmp_path / "checkpoint-5") / "unet_ema" / shards[0], 2.0, w=64)
    index(tmp_path / "checkpoint-5" / "unet_ema", {"w": shards[0]})
    for step in (4, 5):
        (tmp_path / f"checkpoint-{step}" / ".guard").write_text("complete\n")
    seen = look(tmp_path, kind="ema")
    paths = {
        name: [file.path for file in sighting.verdict.weights.files]
        for name, sighting in seen.items()
        if isinstance(sighting.verdict, Whole)
    }
    assert paths == {
        "checkpoint-1": [f"ema/{LORA}"],
        "checkpoint-2": [f"unet_ema/{MODEL}"],
        "checkpoint-4": ["ema/ema_model.safetensors"],
        "checkpoint-5": [f"unet_ema/{shards[0]}"],
    }
    assert "no EMA weights" in str(seen["checkpoint-3"].verdict)


def test_averages_without_the_text_encoders_lora_are_told(tmp_path: Path) -> None:
    """SimpleTuner averages the denoiser alone: its EMA file is half of what was trained."""
    names = [f"{it}.a.lora_{half}.weight" for it in ("unet", "text_encoder") for half in "AB"]
    folder = simpletuner(tmp_path / "checkpoint-1")
    weights(folder / LORA, **dict.fromkeys(names, 4))
    weights(folder / "ema" / LORA, **dict.fromkeys(names[:2], 4))
    assert isinstance(look_once(folder, "live").verdict, Whole)
    assert "without the trained LoRA of the text encoder" in str(look_once(folder, "ema").verdict)
    weights(folder / "ema" / LORA, **dict.fromkeys(names, 4))
    assert isinstance(look_once(folder, "ema").verdict, Whole)


def test_a_pipeline_folder_is_a_checkpoint_if_its_name_has_a_step(tmp_path: Path) -> None:
    """The last number in the name is the step; folders without an index are none of ours."""
    for name in ("epoch3-gs01500", "checkpoint-7", "pipeline", "notes-12"):
        full(tmp_path / name)
    for name in ("epoch3-gs01500", "checkpoint-7", "pipeline"):
        (tmp_path / name / "model_index.json").write_text('{"unet": ["diffusers", "U"]}')
    seen = look(tmp_path, Clock(ahead=3600))
    assert {name: sighting.step for name, sighting in seen.items()} == {
        "epoch3-gs01500": 1500,
        "checkpoint-7": 7,
    }
    assert all(
        isinstance(sighting.verdict, Whole) and sighting.verdict.weights.kind == "pipeline"
        for sighting in seen.values()
    )


def test_a_text_encoder_that_was_trained_as_well_belongs_to_it(tmp_path: Path) -> None:
    """As train_dreambooth saves it; without its weights yet, the whole is waited for."""
    folder = full(tmp_path / "checkpoint-1")
    (folder / "text_encoder").mkdir()
    assert "text_encoder/ has no weights yet" in str(look_once(folder, "live").verdict)
    weights(folder / "text_encoder" / "model.safetensors", w=4)
    for kept in ("live", "ema"):
        weights(folder / "unet_ema" / MODEL, 2.0, w=64)
        seen = look_once(folder, kept).verdict
        assert isinstance(seen, Whole)
        assert (seen.weights.kind, seen.weights.component) == ("full", "unet")
        unet = "unet_ema" if kept == "ema" else "unet"
        paths = [it.path for it in seen.weights.files]
        assert paths == [f"{unet}/{MODEL}", "text_encoder/model.safetensors"]


@pytest.mark.parametrize("weights_kind", ["live", "ema"])
@pytest.mark.parametrize(
    "parts",
    [
        {"unet": ["simpletuner.helpers.models.unet_flowmap", "FlowMapUNet2DConditionModel"]},
        {"unet": ["diffusers", "U"], "text_encoder": [None, None], "text_encoder_2": [None, None]},
    ],
)
def test_simpletuners_final_export_is_the_denoiser_in_it(
    tmp_path: Path, parts: dict[str, list[str | None]], weights_kind: TrainedWeights
) -> None:
    """Its own class or no text encoder at all: the rest is the base model's."""
    folder = full(tmp_path / "pipeline")
    full(folder, component="vae")
    index_of = {"_class_name": "X", "vae": ["diffusers", "V"], **parts}
    (folder / "model_index.json").write_text(json.dumps(index_of))
    seen = look_once(folder, weights_kind).verdict
    assert isinstance(seen, Whole)
    assert (seen.weights.kind, seen.weights.component) == ("full", "unet")
    assert [it.path for it in seen.weights.files] == [f"unet/{MODEL}"]


def test_a_pipeline_that_goes_without_one_of_its_text_encoders_is_whole(tmp_path: Path) -> None:
    """Stable Diffusion 3 without T5 is a pipeline like any."""
    folder = full(tmp_path / "mine")
    parts = {"unet": ["diffusers", "U"], "text_encoder": ["transformers", "C"]}
    parts["text_encoder_3"] = [None, None]  # type: ignore[list-item]
    (folder / "model_index.json").write_text(json.dumps(parts))
    seen = look_once(folder, "live").verdict
    assert isinstance(seen, Whole)
    assert seen.weights.kind == "pipeline"


VARIANTS = [
    # unet, text_encoder -> what is read
    (["", "fp16"], ["", "fp16"], ["", ""]),
    (["fp16"], ["fp16"], ["fp16", "fp16"]),
    (["", "fp16"], ["fp16"], ["fp16", "fp16"]),
    ([""], ["bf16", "fp16"], ["", "bf16"]),
    (["fp16"], [""], ["fp16", ""]),
    (["fp16"], ["bf16", "fp16"], ["fp16", "fp16"]),
]


def variant_name(stem: str, variant: str) -> str:
    return f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"


@pytest.mark.parametrize(("unet", "encoder", "read"), VARIANTS)
def test_one_variant_of_a_pipeline_is_read(
    tmp_path: Path, unet: list[str], encoder: list[str], read: list[str]
) -> None:
    """The usual files where every part has them, else the first variant that serves all parts."""
    folder = tmp_path / "checkpoint-1"
    stems = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}
    for (component, stem), kept in zip(stems.items(), (unet, encoder), strict=True):
        for variant in kept:
            weights(folder / component / variant_name(stem, variant), w=4)
        (folder / component / "config.json").write_text("{}")
    parts = {"unet": ["diffusers", "U"], "text_encoder": ["transformers", "T"]}
    (folder / "model_index.json").write_text(json.dumps(parts))
    seen = look_once(folder, "live").verdict
    assert isinstance(seen, Whole)
    expected = {
        f"{component}/{variant_name(stem, variant)}"
        for (component, stem), variant in zip(stems.items(), read, strict=True)
    }
    assert {it.path for it in seen.weights.files} == {"model_index.json", *expected}


def test_a_setting_in_a_pipelines_index_is_no_part(tmp_path: Path) -> None:
    """Krea 2 says there which layers of its text encoder are read; no folder is missed."""
    folder = tmp_path / "checkpoint-1"
    for component, stem in (("transformer", MODEL), ("text_encoder", "model.safetensors")):
        weights(folder / component / stem, w=4)
        (folder / component / "config.json").write_text("{}")
    parts = {"transformer": ["diffusers", "K"], "text_encoder": ["transformers", "T"]}
    settings = {"text_encoder_select_layers": [2, 5], "sample_sigmas": [1.0, 0.5], "none": []}
    (folder / "model_index.json").write_text(json.dumps(parts | settings))
    seen = look_once(folder, "live").verdict
    assert isinstance(seen, Whole)
    assert len(seen.weights.files) == 3


def test_variants_that_do_not_go_together_are_told(tmp_path: Path) -> None:
    """No loader takes one part in one variant and another in another."""
    folder = tmp_path / "checkpoint-1"
    weights(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors", w=4)
    weights(folder / "text_encoder" / "model.bf16.safetensors", w=4)
    parts = {"unet": ["diffusers", "U"], "text_encoder": ["transformers", "T"]}
    (folder / "model_index.json").write_text(json.dumps(parts))
    told = look_once(folder, "live").verdict
    assert isinstance(told, Unusable)
    assert "(text_encoder: bf16, unet: fp16)" in told.reason


def test_a_sharded_variant_is_read_through_its_own_index(tmp_path: Path) -> None:
    """Diffusers and transformers put the variant of an index behind it."""
    folder = tmp_path / "checkpoint-1" / "unet"
    names = [f"diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in names:
        weights(folder / name, w=4)
    assert "no index yet" in str(look_once(folder.parent, "live").verdict)
    made = {"weight_map": {"a": names[0], "b": names[1]}}
    (folder / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text(json.dumps(made))
    seen = look_once(folder.parent, "live").verdict
    assert isinstance(seen, Whole)
    assert [it.path for it in seen.weights.files] == [f"unet/{name}" for name in names]


def test_what_lies_beside_a_pipelines_parts_is_none_of_its(tmp_path: Path) -> None:
    """The diffusers scripts leave the final pipeline among the checkpoints."""
    final = full(tmp_path / "out")
    (final / "model_index.json").write_text('{"_class_name": "X", "unet": ["diffusers", "U"]}')
    full(final / "checkpoint-1")
    (final / "checkpoint-1" / "optimizer.bin").write_bytes(b"a pickle")
    verdict = look_once(final, "live").verdict
    assert isinstance(verdict, Whole)
    assert [file.path for file in verdict.weights.files] == ["model_index.json", f"unet/{MODEL}"]


def test_the_digest_follows_the_content_not_the_times(tmp_path: Path) -> None:
    """Touched weights are the same weights; other weights at the same step are others."""
    folder = simpletuner(tmp_path / "checkpoint-1")
    before = look(tmp_path)["checkpoint-1"].verdict
    os.utime(folder / LORA, ns=(1, 1))
    touched = look(tmp_path)["checkpoint-1"].verdict
    simpletuner(folder, 2.0)
    other = look(tmp_path)["checkpoint-1"].verdict
    assert isinstance(before, Whole)
    assert isinstance(touched, Whole)
    assert isinstance(other, Whole)
    assert before.digest == touched.digest != other.digest


def test_large_files_are_sampled_over_their_whole_length(tmp_path: Path) -> None:
    """A change of every tensor of a file above 4 MiB changes the digest, head to tail."""
    path = tmp_path / "big.safetensors"
    weights(path, 1.0, w=3_000_000)
    before = content_digest(tmp_path, stat(tmp_path, [path]))
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\1\2\3\4")
    assert content_digest(tmp_path, stat(tmp_path, [path])) != before


AS_NOBODY = """
import os, sys
from pathlib import Path
from clipwatch.layouts import Scanner
from clipwatch.layouts.files import NotReadable
os.setgid(65534); os.setuid(65534)
try:
    for sighting in Scanner(Path(sys.argv[1]), weights="live", settle_seconds=1).scan():
        print(sighting.verdict)
except NotReadable as reason:
    print("the whole directory:", reason)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_another_user_owns_is_unreadable_with_the_remedy(tmp_path: Path) -> None:
    """The reason names the owner to run as; safetensors 0.8 writes files with mode 0600."""
    output = Path("/tmp") / f"clipwatch-test-{tmp_path.name}-{os.getpid()}"

    def told() -> str:
        command = [sys.executable, "-c", AS_NOBODY, str(output)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.stdout + ended.stderr

    try:
        folder = simpletuner(output / "checkpoint-1")
        output.chmod(0o755)
        (folder / LORA).chmod(0o600)
        assert "kind='unreadable'" in told()
        assert "mode 0600, owner root): run clipwatch as root" in told()
        (folder / LORA).chmod(0o644)
        folder.chmod(0o700)
        assert "kind='unreadable'" in told()
        output.chmod(0o711)
        assert "the whole directory: " in told()
        assert "mode 0711, owner root): run clipwatch as root" in told()
    finally:
        shutil.rmtree(output)


def test_a_missing_output_directory_is_told_from_an_empty_one(tmp_path: Path) -> None:
    """The supervisor waits for a directory that does not exist yet."""
    assert look(tmp_path) == {}
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "later")


def test_a_symlinked_output_directory_is_followed(tmp_path: Path) -> None:
    """The root may be a symlink."""
    simpletuner(tmp_path / "real" / "checkpoint-1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert isinstance(look(tmp_path / "link")["checkpoint-1"].verdict, Whole)


def test_one_checkpoint_can_be_looked_at_without_waiting(tmp_path: Path) -> None:
    """`clipwatch score` takes a folder as it is, also one without a step in its name."""
    assert isinstance(look_once(full(tmp_path / "checkpoint-9"), "live").verdict, Whole)
    assert look_once(full(tmp_path / "mine"), "live").step == 0
