"""Readers of your own images: folders, CSV files and MOTChallenge sequences."""
