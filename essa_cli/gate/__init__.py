"""The schedule gate: a replay file's schedule on a real host and a real guest that talk gRPC.

Rules:
- Three processes: one replays and serves the gate; a host and a guest come to it, and do nothing
  but what it releases, one step at a time. The words between them are `proto/gate.proto`.
- Nothing is written twice: scenarios, worlds and choosers are the explorer's, kernel, core and
  session those of the daemons, servicers and link theirs too. This room only puts them together.
- Quiet is known and never guessed: who is to wait for a message knows its number.
"""
