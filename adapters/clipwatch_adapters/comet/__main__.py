"""The session's process: `python -m clipwatch_adapters.comet`."""

from clipwatch_adapters.comet.session import main

main()
