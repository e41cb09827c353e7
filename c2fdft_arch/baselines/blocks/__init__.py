"""What the systems of the paper's tables have in common."""
