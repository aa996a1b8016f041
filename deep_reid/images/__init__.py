"""Turns image files or arrays into the network's input."""
