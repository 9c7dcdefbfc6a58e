"""What a command does without the daemon."""
