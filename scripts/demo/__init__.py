"""The demo: rain on real photographs, removed by a small network trained on the spot."""
