"""Whole photographs: weights, restoration, tiles, files, export."""
