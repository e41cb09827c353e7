"""The commands; each module is one of them, with a `main` that returns the exit code."""
