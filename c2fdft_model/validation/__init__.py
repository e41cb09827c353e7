"""Validation and test over all ranks."""
