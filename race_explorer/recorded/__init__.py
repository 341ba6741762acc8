"""Runs of real processes, made again: from their logs, on the shipped core and kernel."""
