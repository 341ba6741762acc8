"""What every method of the wire answers to whom it does not serve: its rows in its tables.

Rules:
- A method without a row, and a row without a method, fails `test_every_method_has_its_rows`.
- "-": there is no such case, because the method's message carries no token.
"""

from __future__ import annotations

from typing import Any, Final

from shared.essa.v1 import enrolment_pb2
from shared.essa.v1 import essa_pb2 as pb
from tests.hostile.calls import Answer


def _methods(proto: Any) -> list[Any]:
    return [method for service in proto.services_by_name.values() for method in service.methods]


METHODS: Final = _methods(pb.DESCRIPTOR)
ENROLMENT_METHODS: Final = _methods(enrolment_pb2.DESCRIPTOR)

LASTS: Final = Answer("DEADLINE_EXCEEDED")
"""A call that has no end of itself was let in, and we have ended it."""
_ANSWERS: Final = {
    "ok": Answer("OK"),
    "lasts": LASTS,
    "invalid": Answer("INVALID_ARGUMENT", "INVALID_REQUEST"),
    "nobody": Answer("NOT_FOUND", "GUEST_NOT_FOUND"),
    "token": Answer("UNAUTHENTICATED", "INVALID_TOKEN"),
    "stale": Answer("FAILED_PRECONDITION", "STALE_INCARNATION"),
    "name": Answer("PERMISSION_DENIED", "IDENTITY_MISMATCH"),
    "role": Answer("PERMISSION_DENIED", "ROLE_NOT_ALLOWED"),
    "refused": Answer("UNAUTHENTICATED", "TOKEN_REFUSED"),
    "taken": Answer("ALREADY_EXISTS", "NAME_TAKEN"),
    "absent": Answer("UNIMPLEMENTED"),
    "large": Answer("RESOURCE_EXHAUSTED"),
}

Table = dict[str, dict[str, Answer | None]]
"""By full name of the method, then by case."""


def _table(text: str) -> Table:
    (_, *cases), *rows = (line.split() for line in text.split("\n") if line)
    return {
        f"essa.v1.{name}": dict(
            zip(cases, (None if word == "-" else _ANSWERS[word] for word in words), strict=True)
        )
        for name, *words in rows
    }


# A message with nothing but this token. outdated: one's own under another incarnation. stolen:
# another guest's over TLS; an OpenGuest without token is in the name of another guest.
TOKENS: Final = _table("""
method                        own     missing empty forged long  stale outdated closed stolen
EssaService.OpenGuest         invalid -       -     -      -     -     -        -      name
EssaService.ExecuteEssa       invalid token   token token  token stale stale    token  name
EssaService.Execute           ok      token   token token  token stale stale    token  name
EssaService.SubscribeFaults   lasts   token   token token  token stale stale    token  name
EssaService.AcknowledgeFaults ok      token   token token  token stale stale    token  name
EssaService.CloseGuest        ok      token   token token  token stale stale    token  name
ControlService.GetStatus      ok      -       -     -      -     -     -        -      -
ControlService.ListGuests     ok      -       -     -      -     -     -        -      -
ControlService.GetGuest       nobody  -       -     -      -     -     -        -      -
ControlService.GetPageMap     nobody  -       -     -      -     -     -        -      -
ControlService.EvictPages     nobody  -       -     -      -     -     -        -      -
ControlService.WatchEvents    lasts   -       -     -      -     -     -        -      -
ControlService.InjectFault    invalid -       -     -      -     -     -        -      -
ControlService.ListFaults     ok      -       -     -      -     -     -        -      -
ControlService.StopFault      ok      -       -     -      -     -     -        -      -
""")

# role: a certificate of the other role. elsewhere: on the socket of the other service.
PLACES: Final = _table("""
method                        role elsewhere malformed oversize
EssaService.OpenGuest         role absent    invalid   large
EssaService.ExecuteEssa       role absent    invalid   large
EssaService.Execute           role absent    invalid   large
EssaService.SubscribeFaults   role absent    invalid   large
EssaService.AcknowledgeFaults role absent    invalid   large
EssaService.CloseGuest        role absent    invalid   large
ControlService.GetStatus      role absent    invalid   large
ControlService.ListGuests     role absent    invalid   large
ControlService.GetGuest       role absent    invalid   large
ControlService.GetPageMap     role absent    invalid   large
ControlService.EvictPages     role absent    invalid   large
ControlService.WatchEvents    role absent    invalid   large
ControlService.InjectFault    role absent    invalid   large
ControlService.ListFaults     role absent    invalid   large
ControlService.StopFault      role absent    invalid   large
""")

# Of an authority: a request that would be granted but for its token, its certification request,
# or its name; unsigned: the signature is not of its key.
ENROLMENT: Final = _table("""
method                 empty   short   long    forged  spent
EnrolmentService.Enrol invalid invalid invalid refused refused
""")
ENROLMENT_REQUESTS: Final = _table("""
method                 none    nonsense unsigned curve   version long
EnrolmentService.Enrol invalid invalid  invalid  invalid invalid invalid
""")
ENROLMENT_NAMES: Final = _table("""
method                 empty   space   path    newline foreign long    taken
EnrolmentService.Enrol invalid invalid invalid invalid invalid invalid taken
""")
ENROLMENT_MESSAGES: Final = _table("""
method                 malformed oversize
EnrolmentService.Enrol invalid   large
""")

_SESSION: Final = ("UNAUTHENTICATED", "FAILED_PRECONDITION")
_COMMAND: Final = (*_SESSION, "ABORTED", "DEADLINE_EXCEEDED")
_CLEAR: Final = {
    "EssaService.OpenGuest": ("OK", "ALREADY_EXISTS"),
    "EssaService.ExecuteEssa": ("OK", *_COMMAND),
    "EssaService.Execute": ("OK", *_COMMAND),
    "EssaService.SubscribeFaults": ("OK", *_SESSION, "DEADLINE_EXCEEDED"),
    "EssaService.AcknowledgeFaults": ("OK", *_SESSION),
    "EssaService.CloseGuest": _SESSION,
    "ControlService.GetStatus": ("OK",),
    "ControlService.ListGuests": ("OK",),
    "ControlService.GetGuest": ("OK", "NOT_FOUND"),
    "ControlService.GetPageMap": ("OK", "NOT_FOUND"),
    "ControlService.EvictPages": ("OK", "NOT_FOUND"),
    "ControlService.WatchEvents": ("OK", "DEADLINE_EXCEEDED"),
    "ControlService.InjectFault": (),
    "ControlService.ListFaults": ("OK",),
    "ControlService.StopFault": ("OK", "NOT_FOUND"),
}
CLEAR: Final = {
    f"essa.v1.{name}": {*statuses, "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    for name, statuses in _CLEAR.items()
}
"""What the calls of a campaign may be told: it has only wrong tokens for CloseGuest, and only wrong
faults for InjectFault; of a method that may last, DEADLINE_EXCEEDED says that we have ended it."""
ENROLMENT_CLEAR: Final = {
    "essa.v1.EnrolmentService.Enrol": {
        *("OK", "INVALID_ARGUMENT", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED")
    }
}
"""OK: drawn from a request that was granted, some messages are the same once more."""
