"""Data sets for re-identification: readers, splits and drawn data; free of TensorFlow."""
