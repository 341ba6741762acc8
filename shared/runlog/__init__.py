"""The log of one process of a recorded run: what a record says, and the file it goes to."""
