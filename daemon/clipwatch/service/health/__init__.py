"""What a daemon tells of itself over HTTP: health, readiness, metrics and status."""
