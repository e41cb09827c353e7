"""The parts of scripts/compare.py: systems, equal budgets, measurements, report."""
