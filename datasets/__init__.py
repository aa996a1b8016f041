"""Readers and splits of re-identification data sets; free of TensorFlow."""
