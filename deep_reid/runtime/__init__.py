"""TensorFlow itself: the interface of release 1, repairs, sessions, precision."""
