"""The schedule gate: races on real processes."""
