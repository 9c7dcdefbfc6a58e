"""The daemon as a service: systemd, the lock, signs of life, health."""
