"""The ground: files, locks, MATLAB files, tables; free of TensorFlow."""
