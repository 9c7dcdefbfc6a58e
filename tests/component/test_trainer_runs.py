"""Output directories as the trainers left them: which step each checkpoint has, if any."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clipwatch.domain.sighting import Whole
from clipwatch.layouts import look_once
from clipwatch.layouts.claims import chosen
from clipwatch.layouts.lying import lying_in
from layout_kit import weights
from trainer_runs import file, looked, seen, told, written

SAME = "it holds the same weights as"

RUNS: dict[str, tuple[str, dict[str, tuple[int, str, str]]]] = {
    "kohya-lora": (
        "out",
        {
            "shape-step00000004.safetensors": (4, "step", "lora"),
            "shape-step00000006.safetensors": (6, "step", "lora"),
            "shape-step00000008.safetensors": (8, "step", "lora"),
            "shape.safetensors": (8, "step", f"{SAME} shape-step00000008.safetensors"),
        },
    ),
    "kohya-locon": (  # epoch 2 of 8 steps each; the final one is epoch 3
        "out",
        {
            "shape-000002.safetensors": (16, "step", "lora"),
            "shape.safetensors": (24, "step", "lora"),
        },
    ),
    "kohya-gui": (
        "out",
        {
            "shape-step00000004.safetensors": (4, "step", "lora"),
            "shape.safetensors": (8, "step", "lora"),
        },
    ),
    "kohya-dora": (  # --no_metadata: no step in it, and still a digest of the tensors
        "out",
        {
            "shape-step00000002.safetensors": (2, "step", "lycoris"),
            "shape-step00000004.safetensors": (4, "step", "lycoris"),
            "shape.safetensors": (4, "step", f"{SAME} shape-step00000004.safetensors"),
        },
    ),
    "kohya-db-diffusers": (  # no step is known: an axis of epochs
        "out",
        {"pipe-000001": (1, "epoch", "pipeline"), "pipe": (2, "epoch", "pipeline")},
    ),
    "kohya-db-full": (
        "out",
        {
            "full-step00000002.safetensors": (2, "step", "full"),
            "full-step00000004.safetensors": (4, "step", "full"),
            "full.safetensors": (4, "step", f"{SAME} full-step00000004.safetensors"),
        },
    ),
    "kohya-ti": (
        "out",
        {
            "tok-step00000002.safetensors": (2, "step", "embeddings"),
            "tok-step00000004.safetensors": (4, "step", "embeddings"),
            "tok.safetensors": (4, "step", f"{SAME} tok-step00000004.safetensors"),
        },
    ),
    "musubi-qwen": (  # the first epoch ends with step 8, of other weights in this run
        "",
        {
            "art-000001.safetensors": (8, "step", "lora"),
            "art-step00000004.safetensors": (4, "step", "lora"),
            "art-step00000008.safetensors": (8, "step", "lora"),
            "art.safetensors": (16, "step", "lora"),
        },
    ),
    "aitk-flux": (
        "my_first_flux_lora_v1",
        {
            "my_first_flux_lora_v1_000000750.safetensors": (750, "step", "lora"),
            "my_first_flux_lora_v1_000001000.safetensors": (1000, "step", "lora"),
            "my_first_flux_lora_v1_000001250.safetensors": (1250, "step", "lora"),
            "my_first_flux_lora_v1_000001500.safetensors": (1500, "step", "lora"),
            "my_first_flux_lora_v1.safetensors": (2000, "step", "lora"),
        },
    ),
    "aitk-flux-lokr": (
        "my_lokr",
        {
            "my_lokr_000000750.safetensors": (750, "step", "lycoris"),
            "my_lokr_000001000.safetensors": (1000, "step", "lycoris"),
            "my_lokr_000001250.safetensors": (1250, "step", "lycoris"),
            "my_lokr_000001500.safetensors": (1500, "step", "lycoris"),
            "my_lokr.safetensors": (2000, "step", "lycoris"),
        },
    ),
    "onetrainer-lora-kohya_lora": (
        "",  # the workspace; its folder save/ does as well
        {
            "2026-11-28_00-00-46-save-50-0-50.safetensors": (50, "step", "lora"),
            "2026-11-28_00-00-46-save-100-1-20.safetensors": (100, "step", "lora"),
        },
    ),
    "onetrainer-full-diffusers": (
        "save",
        {
            "2026-11-28_00-01-00-save-50-0-50": (50, "step", "pipeline"),
            "2026-11-28_00-10-58-save-100-1-20": (100, "step", "pipeline"),
        },
    ),
    "onetrainer-loha": (
        "save",
        {"2026-11-28_00-00-52-save-50-0-50.safetensors": (50, "step", "lycoris")},
    ),
    "onetrainer-oft_2": (
        "save",
        {"2026-11-28_00-00-54-save-50-0-50.safetensors": (50, "step", "lycoris")},
    ),
    "dp-flux": (
        "",  # the newest training in it; that folder does as well
        {
            "step50": (50, "step", "lora"),
            "step100": (100, "step", "lora"),
            "epoch1": (1, "epoch", "it counts epochs, and the training saves steps as well"),
        },
    ),
    "dp-qwen": (
        "20261127_10-00-00",
        {
            "step50": (50, "step", "lora"),
            "epoch1": (1, "epoch", "it counts epochs, and the training saves steps as well"),
            "epoch2": (2, "epoch", "it counts epochs, and the training saves steps as well"),
        },
    ),
    "ed2": (
        "logs/proj-20261127-100000/ckpts",
        {
            "proj-ep01-gs00100": (100, "step", "pipeline"),
            "proj-ep01-gs00100_ema": (100, "step", "it holds the EMA weights"),
            "proj-ep02-gs00200": (200, "step", "pipeline"),
            "errored-proj-ep02-gs00250": (250, "step", "it was saved when the training failed"),
            "interrupted-gs00260": (260, "step", "pipeline"),
            "last-proj-ep03-gs00300": (300, "step", "pipeline"),
        },
    ),
    "df-misc": (
        "out",
        {
            "checkpoint-1": (1, "step", "unet/ holds an InstructPix2Pix model"),
            "checkpoint-2": (2, "step", "lora"),  # train_lcm_distill_lora_sd_wds.py
            "checkpoint-3": (3, "step", "it holds an LCM's UNet (unet_target/)"),
            "checkpoint-4": (4, "step", "a ControlNet needs conditioning images"),
            "checkpoint-5": (5, "step", "unet/ holds an unconditional model"),
            "checkpoint-6": (6, "step", "prior/ holds a prior"),
        },
    ),
    "df-ti": (
        "out",
        {
            "checkpoint-2": (2, "step", "it holds accelerate's own state only"),
            "checkpoint-4": (4, "step", "it holds accelerate's own state only"),
            "learned_embeds-steps-2.safetensors": (2, "step", "embeddings"),
            "learned_embeds-steps-4.safetensors": (4, "step", "embeddings"),
            "learned_embeds.safetensors": (4, "step", f"{SAME} learned_embeds-steps-4.safetensors"),
        },
    ),
}
"""Run → the folder to name as output_dir, and what must be seen in it."""


@pytest.mark.parametrize("run", RUNS)
def test_each_checkpoint_has_its_step(run: str, tmp_path: Path) -> None:
    """And its kind, or the reason why it is left out; nothing else is one."""
    below, expected = RUNS[run]
    found = seen(written(run, tmp_path) / below)
    assert found.keys() == expected.keys()
    for name, (step, unit, begins) in expected.items():
        assert found[name][:2] == (step, unit), name
        assert begins in found[name][2], name
        if begins in ("full", "lora", "lycoris", "embeddings", "pipeline"):
            assert found[name][2] == begins


@pytest.mark.parametrize(
    ("run", "folder"),
    [("onetrainer-lora-kohya_lora", "save"), ("dp-flux", "20261127_10-00-00")],
)
def test_the_folder_itself_may_be_named(run: str, folder: str, tmp_path: Path) -> None:
    """That of the run, or the one in it that has the checkpoints: the same is seen."""
    written(run, tmp_path)
    assert seen(tmp_path) == seen(tmp_path / folder)


def test_the_newest_training_of_diffusion_pipe_counts(tmp_path: Path) -> None:
    """Each start has a folder of its own, and the names in them are alike."""
    written("dp-flux", tmp_path)
    (tmp_path / "20261128_10-00-00").mkdir()
    assert seen(tmp_path) == {}


def test_the_averages_of_everydream_are_scored_if_asked(tmp_path: Path) -> None:
    """With "weights": "ema" those alone."""
    found = seen(written("ed2", tmp_path) / "logs/proj-20261127-100000/ckpts", "ema")
    assert {name for name, it in found.items() if it[2] == "pipeline"} == {"proj-ep01-gs00100_ema"}
    assert found["proj-ep02-gs00200"][2].startswith("it holds the live weights")


@pytest.mark.parametrize("layout", ["kohya", "ai_toolkit", "onetrainer", "diffusion_pipe"])
def test_a_layout_that_is_chosen_is_the_only_one(layout: str, tmp_path: Path) -> None:
    """Another trainer's checkpoints are none then."""
    written("kohya-gui", tmp_path)
    assert bool(seen(tmp_path / "out", layout=layout)) is (layout == "kohya")


def test_a_layout_in_the_users_own_words(tmp_path: Path) -> None:
    """A pattern and an expression; a group that is called epoch counts epochs."""
    (tmp_path / "lora_v2_e07_final.safetensors").write_bytes(
        file("kohya-lora", "out/shape-step00000004.safetensors")
    )
    by = {"files": "lora_v2_*.safetensors"}
    steps = chosen("generic", step=r"_e(\d+)_", **by)
    epochs = chosen("generic", step=r"_e(?P<epoch>\d+)_", **by)
    path = tmp_path / "lora_v2_e07_final.safetensors"
    assert (look_once(path, "live", steps).step, look_once(path, "live", steps).unit) == (7, "step")
    assert (
        look_once(path, "live", chosen("generic", step="(v9)", **by)).step == 4
    )  # of its metadata
    assert (look_once(path, "live", epochs).step, told(look_once(path, "live", epochs))) == (
        4,
        "lora",
    )


# The final file -----------------------------------------------------------------------------------


def test_a_final_file_that_tells_no_step_has_no_place(tmp_path: Path) -> None:
    """Other weights than those of the last number, and no metadata: a number is not invented."""
    out = written("kohya-dora", tmp_path) / "out"
    data = bytearray(file("kohya-dora", "out/shape.safetensors"))
    old = b'"sshs_model_hash":"0xf16c'
    assert data.count(old) == 1
    (out / "shape.safetensors").write_bytes(data.replace(old, b'"sshs_model_hash":"0xaaaa'))
    assert "neither its name nor its file tells a step" in seen(out)["shape.safetensors"][2]
    assert told(look_once(out / "shape.safetensors", "live")) == "lycoris"  # clipwatch score


def test_ai_toolkit_marks_a_lora_that_is_not_all(tmp_path: Path) -> None:
    """With tokens or an adapter beside it a LoRA is NAME_LoRA, the final one too."""
    run = written("aitk-flux", tmp_path) / "my_first_flux_lora_v1"
    for path in run.glob("my_first_flux_lora_v1*.safetensors"):
        path.rename(path.with_name(path.name.replace("_v1", "_v1_LoRA")))
    steps = {name: it[:2] for name, it in seen(run).items()}
    assert steps["my_first_flux_lora_v1_LoRA_000000750.safetensors"] == (750, "step")
    assert steps["my_first_flux_lora_v1_LoRA.safetensors"] == (2000, "step")


def test_the_final_file_alone_is_no_guess(tmp_path: Path) -> None:
    """Without a numbered one beside it nothing says whose it is; it is told, and can be named."""
    out = written("kohya-gui", tmp_path) / "out"
    (out / "shape-step00000004.safetensors").unlink()
    assert seen(out) == {}
    assert lying_in(out, chosen("auto")) == (
        "1 single .safetensors file whose name tells no step (shape.safetensors)"
    )
    found = look_once(out / "shape.safetensors", "live")
    assert (found.step, told(found)) == (8, "lora")


def test_without_digests_the_tensors_are_compared(tmp_path: Path) -> None:
    """Two files whose headers differ alone are one."""
    out = written("kohya-lora", tmp_path) / "out"
    for name in ("shape-step00000008.safetensors", "shape.safetensors"):
        data = (out / name).read_bytes()
        assert b'"sshs_model_hash"' in data
        (out / name).write_bytes(data.replace(b'"sshs_model_hash"', b'"sshs_model_hasX"'))
    assert seen(out)["shape.safetensors"][2] == f"{SAME} shape-step00000008.safetensors"


# What is not understood ---------------------------------------------------------------------------


def test_folders_to_resume_from_are_told(tmp_path: Path) -> None:
    """They are passed over with a word."""
    out = written("kohya-lora", tmp_path) / "out"
    assert lying_in(out, chosen("auto")) == "4 folders to resume from (shape-state)"


def test_two_trainings_in_one_folder_are_told(tmp_path: Path) -> None:
    """A folder that is used again under another --output_name."""
    out = written("kohya-gui", tmp_path) / "out"
    assert lying_in(out, chosen("auto")) == ""
    data = file("kohya-dora", "out/shape-step00000002.safetensors")
    (out / "other-step00000002.safetensors").write_bytes(data)
    assert lying_in(out, chosen("auto")).startswith(
        "checkpoints of 2 trainings, by their names (other, shape)"
    )


def test_a_backup_of_onetrainer_has_its_global_step(tmp_path: Path) -> None:
    """Where somebody names the folder of backups."""
    written("onetrainer-full-diffusers", tmp_path)
    old = tmp_path / "save/2026-11-28_00-10-58-save-100-1-20"
    old.rename(tmp_path / "2026-11-28_00-10-58-backup-100-1-20")
    assert seen(tmp_path)["2026-11-28_00-10-58-backup-100-1-20"] == (100, "step", "pipeline")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("ed2/logs", "6 checkpoints in {}/proj-20261127-100000/ckpts: name that folder"),
        ("aitk-flux", "5 checkpoints in {}/my_first_flux_lora_v1: name that folder"),
        ("kohya-gui", "2 checkpoints in {}/out: name that folder"),
    ],
)
def test_the_folder_to_name_is_told(run: str, expected: str, tmp_path: Path) -> None:
    """Where the checkpoints lie deeper the right output_dir is said."""
    name, _, below = run.partition("/")
    folder = written(name, tmp_path) / below
    assert expected.format(str(folder).rstrip("/")) in lying_in(folder, chosen("auto"))


def test_pickles_are_counted_and_never_opened(tmp_path: Path) -> None:
    """A folder full of them is not an empty one."""
    for number in (1, 2):
        (tmp_path / f"model-{number}.ckpt").write_bytes(b"\x80\x04")
    (tmp_path / "optimizer.pt").write_bytes(b"")
    assert lying_in(tmp_path, chosen("auto")) == (
        "2 .ckpt files, pickles that are never opened (model-1.ckpt)"
    )
    assert looked(tmp_path) == []


def test_a_lora_of_t5_is_an_adapter_like_any(tmp_path: Path) -> None:
    """What diffusers would drop while it applies the rest, clipwatch places itself."""
    name = "art-step00000004.safetensors"
    weights(tmp_path / name, **{f"lora_te3_x.lora_{it}.weight": 8 for it in ("down", "up")})
    assert seen(tmp_path)[name] == (4, "step", "lora")


def test_a_scale_that_stands_beside_the_file_is_part_of_it(tmp_path: Path) -> None:
    """PEFT's folder: alpha is in adapter_config.json alone, and another one is other weights."""
    run = written("dp-qwen", tmp_path) / "20261127_10-00-00"
    config = run / "step50/adapter_config.json"
    found = set()
    for alpha in ("4", "8", "16"):
        config.write_text(
            re.sub(r'"lora_alpha": \d+', f'"lora_alpha": {alpha}', config.read_text())
        )
        verdict = look_once(run / "step50", "live").verdict
        assert isinstance(verdict, Whole)
        found.add(verdict.digest)
    assert len(found) == 3
