"""The models that make the numbers: where their files lie, which of them count, what they hold.

Imports no torch and asks no network.
"""
