"""The daemon: one thread that receives, decides and has things done."""
