"""What SimpleTuner's own keys, families and files mean for the pictures of its validation."""
