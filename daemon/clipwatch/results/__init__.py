"""The one reader of scores and images."""
