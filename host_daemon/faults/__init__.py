"""Injected faults: which there are, what each matches, and how often it has struck.

Decides only; what a strike does is done where it happens (`rpc`, `paging`). No I/O, no clock.
"""
