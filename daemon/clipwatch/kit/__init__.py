"""What every room may use; knows none of them."""
