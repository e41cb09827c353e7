"""The diffusion process: noise schedule, sampling, mean reversion."""
