"""A protocol to decide by, whose models nobody opens."""

from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec

PROTOCOL = EvaluationProtocol(
    prompts=(Prompt("a", "one"), Prompt("b", "two", "colours")),
    images_per_prompt=2,
    seed=0,
    negative_prompt="",
    inference_steps=10,
    guidance=3.0,
    width=32,
    height=32,
    scheduler="",
    base_model="/base",
    base_revision="",
    base_variant="",
    weights="live",
    dtype="fp32",
    scorers=(ScorerSpec("", "/clip"),),
)
