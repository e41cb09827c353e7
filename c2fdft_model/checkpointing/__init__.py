"""Saving a training, leaving on a signal, and going on exactly."""
