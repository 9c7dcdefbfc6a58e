"""What another package adds to clipwatch."""
