"""What the evaluator decides without a model: samplers, arguments, names, devices."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

import evaluator_kit as kit
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation.schedulers import DIFFUSION, FLOW_MATCHING, sampler
from clipwatch.evaluator.generation.weights import misfit
from clipwatch.evaluator.images import image_name
from clipwatch.evaluator.torch_device import find_device

pytestmark = [
    # the libraries' own, under versions that disagree with each other
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def asked(name: str, **changes: Any) -> EvaluationProtocol:
    """Return a protocol that asks for a sampler."""
    return kit.protocol(Path("/base"), scheduler=name, **changes)


@pytest.mark.parametrize("name", DIFFUSION)
def test_samplers_of_a_diffusion_model(name: str) -> None:
    """Each name gives its class, the noise schedule of the model, and trailing timesteps."""
    own = DDIMScheduler(**BETAS, prediction_type="v_prediction", clip_sample=False)
    found = sampler(asked(name), own)
    assert type(found).__name__ == DIFFUSION[name]
    assert found.config.timestep_spacing == "trailing"
    assert found.config.prediction_type == "v_prediction"
    assert {key: found.config[key] for key in BETAS} == BETAS
    assert not found.config.get("clip_sample", False)


@pytest.mark.parametrize("name", FLOW_MATCHING)
def test_samplers_of_a_flow_matching_model(name: str) -> None:
    """Flow-matching models keep flow sigmas and their shift under every sampler."""
    found = sampler(asked(name), FlowMatchEulerDiscreteScheduler(shift=3.0))
    assert type(found).__name__ == FLOW_MATCHING[name]
    assert found.config.get("flow_shift", found.config.get("shift")) == 3.0
    back = sampler(asked("euler"), found)
    assert isinstance(back, FlowMatchEulerDiscreteScheduler)
    assert back.config.shift == 3.0


def test_sampler_that_does_not_suit() -> None:
    """A sampler of diffusion models would make noise of a flow-matching one: it is refused."""
    with pytest.raises(EvaluationError, match="choose one of euler, unipc"):
        sampler(asked("ddim"), FlowMatchEulerDiscreteScheduler())


def test_own_sampler_is_kept() -> None:
    """No name means the pipeline's own sampler as it is."""
    own = DDIMScheduler(timestep_spacing="leading")
    assert sampler(asked(""), own) is own


def test_own_sampler_keeps_its_zero_terminal_snr() -> None:
    """Also where what is predicted is told, and another class asked for by name has what is set."""
    own = DDIMScheduler(**BETAS, rescale_betas_zero_snr=True)
    assert sampler(asked("", zero_snr=False), own) is own
    told = sampler(asked("", zero_snr=False, prediction_type="v_prediction"), own)
    assert (told.config.prediction_type, told.config.rescale_betas_zero_snr) == (
        "v_prediction",
        True,
    )
    assert sampler(asked("euler"), own).config.rescale_betas_zero_snr


def test_learned_variance_is_left_out() -> None:
    """Samplers that cannot use a learned variance get a fixed one."""
    own = DDIMScheduler.from_config({"variance_type": "learned_range"})
    assert sampler(asked("ddpm"), own).config.variance_type == "fixed_small"


@pytest.mark.parametrize("name", DIFFUSION)
def test_the_trainers_schedule_is_followed(name: str) -> None:
    """Prediction type, zero terminal SNR and spacing of the settings reach every sampler."""
    own = DDIMScheduler(**BETAS)
    how = asked(name, prediction_type="v_prediction", zero_snr=True, timestep_spacing="leading")
    found = sampler(how, own)
    assert found.config.prediction_type == "v_prediction"
    assert found.config.timestep_spacing == "leading"
    if "rescale_betas_zero_snr" in inspect.signature(type(found).__init__).parameters:
        assert found.config.rescale_betas_zero_snr
        assert not torch.equal(found.alphas_cumprod, sampler(asked(name), own).alphas_cumprod)
    off = sampler(asked(name, zero_snr=False), DDIMScheduler(**BETAS, rescale_betas_zero_snr=True))
    assert not off.config.get("rescale_betas_zero_snr", False)


def test_the_pipelines_own_sampler_is_told_what_is_predicted() -> None:
    """Without a name the class stays, but noise is never taken for velocity."""
    own = EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")
    found = sampler(asked("", prediction_type="v_prediction"), own)
    assert type(found) is EulerDiscreteScheduler
    assert (found.config.prediction_type, found.config.timestep_spacing) == (
        "v_prediction",
        "leading",
    )
    assert sampler(asked("", prediction_type="epsilon"), own) is own
    flow = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert sampler(asked("", prediction_type="flow_matching"), flow) is flow


def test_the_trainer_clips_what_its_base_model_does_not_speak_of() -> None:
    """PixArt's sampler has no clip_sample: SimpleTuner's ddim then clips, by diffusers' default."""
    own = DPMSolverMultistepScheduler(**BETAS)
    assert not sampler(asked("ddim"), own).config.clip_sample
    assert sampler(asked("ddim", rules="simpletuner"), own).config.clip_sample
    told = DDIMScheduler(**BETAS, clip_sample=False)
    assert not sampler(asked("ddim", rules="simpletuner"), told).config.clip_sample


@pytest.mark.parametrize("name", ["", *FLOW_MATCHING])
def test_the_trainers_shift_is_followed(name: str) -> None:
    """A flow-matching sampler gets the trainer's shift, unless the model's is dynamic."""
    found = sampler(asked(name, flow_shift=5.0), FlowMatchEulerDiscreteScheduler(shift=3.0))
    assert found.config.get("flow_shift", found.config.get("shift")) == 5.0
    dynamic = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    kept = sampler(asked(name, flow_shift=5.0), dynamic)
    assert kept.config.get("flow_shift", kept.config.get("shift")) == 3.0


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "cpu:1"])
def test_unknown_device(name: str) -> None:
    """A device that PyTorch lacks is refused with what to do."""
    with pytest.raises(EvaluationError, match="set device to 'cpu'"):
        find_device(name)


@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.integers(1, 3)), max_size=6),
    st.dictionaries(st.text(max_size=3), st.tuples(st.integers(1, 3)), max_size=6),
)
def test_misfit_is_empty_only_for_equals(
    wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]
) -> None:
    """Two sets of tensors fit exactly when names and shapes are the same."""
    assert (misfit(wanted, found) == "") == (wanted == found)


@given(st.lists(st.tuples(st.text(max_size=90), st.integers(0, 20)), unique=True, max_size=30))
def test_image_names(images: list[tuple[str, int]]) -> None:
    """Each image has a name of its own, below its folder, on case-blind file systems too."""
    names = {image_name(*image).casefold() for image in images}
    assert len(names) == len(images)
    for name in names:
        assert Path(name).name == name
        assert len(name.encode()) < 128
        assert not name.startswith((".", "-", "~"))
