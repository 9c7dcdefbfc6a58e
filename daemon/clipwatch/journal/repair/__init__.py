"""What a damaged log still holds."""
