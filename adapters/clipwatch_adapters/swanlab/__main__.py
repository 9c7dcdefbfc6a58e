"""The session's process: `python -m clipwatch_adapters.swanlab`."""

from clipwatch_adapters.swanlab.session import main

main()
