"""What a run leaves on the disk: its folder, its classes, its checkpoints."""
