"""Restoring whole images: weights, restoration, tiles, jobs, export."""
