"""What is owed to trackers and people, and how it is brought."""
