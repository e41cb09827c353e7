"""README and docs/: their figures come from measurements."""
