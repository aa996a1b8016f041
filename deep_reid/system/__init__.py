"""The ground: files, locks, MATLAB files, tables, checks; free of TensorFlow."""
