"""The session's process: `python -m clipwatch_adapters.trackio`."""

from clipwatch_adapters.trackio.session import main

main()
