"""The two stages and one iteration of their training."""
