"""Many guests on one host: how much they get done together, and what that costs the others."""
