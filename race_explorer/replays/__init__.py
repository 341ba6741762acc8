"""Replay files: runs as text that a person can review, and that says what must come of them."""
