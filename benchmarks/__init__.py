"""Measures speed, memory and accuracy, beside other libraries that do the same; see ``run.py``."""
