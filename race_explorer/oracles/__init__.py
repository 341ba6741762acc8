"""What must hold of a run, watched while it goes on: the oracles of the explorer."""
