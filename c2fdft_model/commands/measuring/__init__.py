"""The commands that measure: results, sampling steps, systems, the benchmarks of SIDD and DND."""
