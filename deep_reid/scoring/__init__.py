"""Scores by the official protocols: ranking, re-ranking, pairs, report; free of TensorFlow."""
