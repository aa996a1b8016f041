"""Tracking: MOTChallenge sequences, features, Deep SORT's tracks, their scores and pictures."""
