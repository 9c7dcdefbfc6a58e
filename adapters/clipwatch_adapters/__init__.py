"""Trackers to which clipwatch publishes; one file each, found by entry point."""
