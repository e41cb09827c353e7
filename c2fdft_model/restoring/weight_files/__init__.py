"""Weights in other shapes than a checkpoint file: safetensors, folders as hubs keep them, hubs."""
