"""Measures what the package costs, next to what else does the same work; see ``run.py``."""
