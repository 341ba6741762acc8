"""Benchmarks of the running machine: real server processes, ratios of alternating rounds.

`python -m bench` measures; `python -m bench.echo` is the baseline, a bare grpc.aio server.
"""
