"""Whole option files: reading, checking before anything starts, and describing every key."""
