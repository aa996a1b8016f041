"""TensorFlow itself: its interface of release 1, its repairs, sessions, precision."""
