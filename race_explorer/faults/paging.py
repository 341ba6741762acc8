"""What may become of the pages on the paging device. That it is slow needs no fault: each of its
operations is a step of its own, and ends when it likes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from host_daemon.core.effects import PageIn
from race_explorer import touching
from race_explorer.faults.failure import Failure
from race_explorer.world import SimWorld


def bad_reads(world: SimWorld) -> Iterator[Failure]:
    """The copy of a page is damaged."""
    for operation in world.paging:
        if isinstance(operation, PageIn):
            happen = partial(_damage, world, operation)
            yield Failure(f"{operation.operation}", "page_in fails", touching.PAGING, happen)


def _damage(world: SimWorld, operation: PageIn) -> None:
    world.damaged = True
    world.finish_paging(operation, ok=False)


def bad_writes(world: SimWorld) -> Iterator[Failure]:
    """A page cannot be written, and stays where it is."""
    for operation in world.paging:
        if not isinstance(operation, PageIn):
            happen = partial(world.finish_paging, operation, ok=False)
            yield Failure(f"{operation.operation}", "page_out fails", touching.PAGING, happen)
