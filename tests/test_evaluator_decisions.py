"""What the evaluator decides without a model: samplers, arguments, names, devices."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    QwenImagePipeline,
    StableDiffusionPipeline,
)
from hypothesis import given
from hypothesis import strategies as st

import evaluator_kit as kit
from clipwatch.evaluator.device import find_device
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.images import image_name
from clipwatch.evaluator.pipeline import call_arguments
from clipwatch.evaluator.schedulers import DIFFUSION, FLOW_MATCHING, replace_scheduler
from clipwatch.evaluator.weights import misfit

pytestmark = [
    # the libraries' own, under versions that disagree with each other
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("name", DIFFUSION)
def test_samplers_of_a_diffusion_model(name: str) -> None:
    """Each name gives its class, the noise schedule of the model, and trailing timesteps."""
    own = DDIMScheduler(**BETAS, prediction_type="v_prediction", clip_sample=False)
    found = replace_scheduler(name, own)
    assert type(found).__name__ == DIFFUSION[name]
    assert found.config.timestep_spacing == "trailing"
    assert found.config.prediction_type == "v_prediction"
    assert {key: found.config[key] for key in BETAS} == BETAS
    assert not found.config.get("clip_sample", False)


@pytest.mark.parametrize("name", FLOW_MATCHING)
def test_samplers_of_a_flow_matching_model(name: str) -> None:
    """Flow-matching models keep flow sigmas and their shift under every sampler."""
    found = replace_scheduler(name, FlowMatchEulerDiscreteScheduler(shift=3.0))
    assert type(found).__name__ == FLOW_MATCHING[name]
    assert found.config.get("flow_shift", found.config.get("shift")) == 3.0
    back = replace_scheduler("euler", found)
    assert isinstance(back, FlowMatchEulerDiscreteScheduler)
    assert back.config.shift == 3.0


def test_sampler_that_does_not_suit() -> None:
    """A sampler of diffusion models would make noise of a flow-matching one: it is refused."""
    with pytest.raises(EvaluationError, match="choose one of euler, unipc"):
        replace_scheduler("ddim", FlowMatchEulerDiscreteScheduler())


def test_own_sampler_is_kept() -> None:
    """No name means the pipeline's own sampler as it is."""
    own = DDIMScheduler(timestep_spacing="leading")
    assert replace_scheduler("", own) is own


def test_learned_variance_is_left_out() -> None:
    """Samplers that cannot use a learned variance get a fixed one."""
    own = DDIMScheduler.from_config({"variance_type": "learned_range"})
    assert replace_scheduler("ddpm", own).config.variance_type == "fixed_small"


@pytest.mark.parametrize(
    ("pipeline", "negative", "expected"),
    [
        (StableDiffusionPipeline, "", {"guidance_scale": 4.5}),
        (StableDiffusionPipeline, "ugly", {"guidance_scale": 4.5, "negative_prompt": ["ugly"] * 2}),
        (FluxPipeline, "", {"guidance_scale": 4.5}),
        (QwenImagePipeline, "", {"true_cfg_scale": 4.5, "negative_prompt": [" "] * 2}),
    ],
)
def test_guidance_reaches_the_pipeline(
    pipeline: type, negative: str, expected: dict[str, Any]
) -> None:
    """Guidance is passed under the name by which a pipeline heeds it."""
    how = kit.protocol(Path("/base"), guidance=4.5, negative_prompt=negative)
    parameters = inspect.signature(pipeline.__call__).parameters
    common = {"prompt": ["a", "b"], "num_inference_steps": 2, "width": 32, "height": 32}
    assert call_arguments(parameters, how, ["a", "b"]) == common | expected


def test_unknown_arguments_are_left_out() -> None:
    """A pipeline is called with nothing that it does not take."""

    def call(prompt: str) -> None: ...

    found = call_arguments(inspect.signature(call).parameters, kit.protocol(Path("/base")), ["a"])
    assert found == {"prompt": ["a"]}


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
