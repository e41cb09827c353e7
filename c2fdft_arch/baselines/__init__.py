"""Networks to compare with, and any registered network as the noise predictor."""
