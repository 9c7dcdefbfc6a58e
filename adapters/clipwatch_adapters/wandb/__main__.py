"""The session's process: `python -m clipwatch_adapters.wandb`."""

from clipwatch_adapters.wandb.session import main

main()
