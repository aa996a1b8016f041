"""The machinery of training and evaluation: a queue, the threads that fill it, one step."""
