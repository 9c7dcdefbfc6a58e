"""The pure heart: events, what they add up to, and what follows. No files, no clock, no torch."""
