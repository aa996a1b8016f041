"""From image files or arrays to the network's input."""
