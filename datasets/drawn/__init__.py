"""Pedestrian data sets that are drawn: pictures, and the layouts of their files."""
