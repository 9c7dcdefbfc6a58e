"""For every adapter, also those of third parties: names of numbers, pictures, the disk's errors."""
