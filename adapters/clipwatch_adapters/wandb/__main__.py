"""The session's process: `python -m clipwatch_adapters.wandb`."""

from clipwatch_adapters.shared.child import serve
from clipwatch_adapters.wandb.session import Job, outcome

serve(Job, outcome)
