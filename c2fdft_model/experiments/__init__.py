"""Trainings and measurements in processes of their own, what they cost, and comparing systems."""
