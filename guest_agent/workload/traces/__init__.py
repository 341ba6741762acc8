"""The shipped traces, as package data. docs/TRACES.md says how each was made."""
