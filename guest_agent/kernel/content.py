"""Content that names itself, and the ledger of what may legally be seen.

Rules:
- A 4 KiB block is 128 repeats of one 32-byte tag (disk, block, version, checksum); a block
  never written reads as version 0.
- A load may see any version that was not overwritten, by a store that both began and ended
  before the load began; anything else is an integrity error.
- A completed writeback makes its version durable: after a power failure that version or a
  newer one is seen, and none older.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import Final

from guest_agent.kernel.page import ANY, reads, writes
from guest_agent.kernel.ports import Accesses, Resource
from shared.arch import PAGE_SIZE

_BODY: Final = Struct("<4sIQQ")
_MAGIC: Final = b"ESSA"
_BLOCK_BITS: Final = 40
TAG_SIZE: Final = 32
TAGS_PER_PAGE: Final = PAGE_SIZE // TAG_SIZE

ANONYMOUS_DISK: Final = 0
"""Stands for memory that is on no disk: the block is the anonymous page's number."""

SWAP_DISK: Final = 2
"""The guest's swap device; its blocks are slots, from 1, and hold anonymous pages' content."""
DMA_DISK: Final = 3
"""Stands for a device that moves data into and out of users' pages."""

BlockKey = tuple[int, int]
"""(disk, block)."""


@lru_cache(maxsize=65_536)
def tag(disk: int, block: int, version: int) -> bytes:
    """The 32 bytes that fill block `block` of disk `disk` at `version`. Little-endian."""
    body = _BODY.pack(_MAGIC, disk, block, version)
    return body + blake2b(body, digest_size=TAG_SIZE - _BODY.size).digest()


@lru_cache(maxsize=65_536)
def parse_tag(data: bytes) -> tuple[int, int, int] | None:
    """(disk, block, version), or None for bytes that are no intact tag."""
    if len(data) != TAG_SIZE:
        return None
    magic, disk, block, version = _BODY.unpack_from(data)
    if magic != _MAGIC or tag(disk, block, version) != data:
        return None
    return disk, block, version


@dataclass(slots=True)
class _Block:
    """legal: version -> when its store ended (None: still under way)."""

    next_version: int = 1
    durable: int = 0
    legal: dict[int, int | None] = field(default_factory=lambda: {0: 0})
    begun: dict[int, int] = field(default_factory=dict)


def content_resource(key: BlockKey) -> Resource:
    """The versions of one block, as a resource that steps touch."""
    return "content", key[0] << _BLOCK_BITS | key[1]


@dataclass(slots=True, eq=False)
class LoadTicket:
    """A load under way: what was legal when it began. A `Check`."""

    ledger: Ledger
    key: BlockKey
    legal: tuple[int, ...] = ()
    next_version: int = 0

    @property
    def resource(self) -> Resource:
        """The block's versions."""
        return content_resource(self.key)

    def begin(self) -> None:
        """It begins now, and not before."""
        self.ledger.begin(self)

    def nullified(self) -> None:
        """Nothing: what was not loaded tells nothing."""

    def accesses(self) -> Accesses:
        """The versions; a load that finds several legal ones may tell which one it is."""
        if self.ledger.is_settled(self.key):
            return (reads(*self.resource),)
        return (writes(*self.resource), reads("mapping", ANY), reads("page_tree", ANY))


@dataclass(slots=True, eq=False)
class StoreTicket:
    """A store under way, of a version of its own. A `Check`."""

    ledger: Ledger
    key: BlockKey
    version: int

    @property
    def resource(self) -> Resource:
        """The block's versions."""
        return content_resource(self.key)

    def begin(self) -> None:
        """It begins now, and not before."""
        self.ledger.restart_store(self.key, self.version)

    def accesses(self) -> Accesses:
        """The versions, which change."""
        return (writes(*self.resource),)

    def end(self) -> None:
        """The store has taken effect."""
        self.ledger.end_store(self.key, self.version)

    def nullified(self) -> None:
        """The store has had no effect."""
        self.ledger.cancel_store(self.key, self.version)


@dataclass(slots=True)
class Ledger:
    """The versions of every block of one guest. All methods are atomic; no schedule point."""

    _blocks: dict[BlockKey, _Block] = field(default_factory=dict)
    _now: int = 0

    def _block(self, key: BlockKey) -> _Block:
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block()
        return block

    def begin_store(self, key: BlockKey) -> int:
        """A store of a new version is about to be issued; returns the version."""
        block = self._block(key)
        version = block.next_version
        block.next_version += 1
        self._now += 1
        block.begun[version] = self._now
        block.legal[version] = None
        return version

    def store(self, key: BlockKey) -> StoreTicket:
        """`begin_store` as a Check."""
        return StoreTicket(self, key, self.begin_store(key))

    def restart_store(self, key: BlockKey, version: int) -> None:
        """A store that was begun, or cancelled, begins now; not if `lost` has dropped it."""
        block = self._blocks[key]
        if version in block.begun or version not in block.legal:
            self._now += 1
            block.begun[version] = self._now
            block.legal[version] = None

    def end_store(self, key: BlockKey, version: int) -> None:
        """The store has taken effect: versions that ended before it began are gone."""
        block = self._blocks[key]
        begun = block.begun.pop(version, None)
        if begun is None:
            return  # dropped meanwhile by `lost`
        for other, ended in list(block.legal.items()):
            if ended is not None and ended < begun:
                del block.legal[other]
        self._now += 1
        block.legal[version] = self._now

    def cancel_store(self, key: BlockKey, version: int) -> None:
        """The store was nullified and has had no effect."""
        block = self._blocks[key]
        block.begun.pop(version, None)
        block.legal.pop(version, None)

    def begin_load(self, key: BlockKey) -> LoadTicket:
        """A load, or a transfer to the disk, is about to read the block."""
        ticket = LoadTicket(self, key)
        self.begin(ticket)
        return ticket

    def begin(self, ticket: LoadTicket) -> None:
        """The ticket's load begins now."""
        block = self._block(ticket.key)
        ticket.legal, ticket.next_version = tuple(block.legal), block.next_version

    def end_load(
        self, ticket: LoadTicket, seen: int, is_current: Callable[[], bool] = lambda: True
    ) -> bool:
        """Whether `seen` was legal at any moment of the load.

        With no store under way, what was seen is from now on the only legal version. is_current:
        asked where it matters; not so for a page that is the file's no longer: it holds any
        version that there was.
        """
        block = self._blocks[ticket.key]
        if not self.explains(ticket, seen):
            return seen < block.next_version and not is_current()
        untouched = not block.begun and block.next_version == ticket.next_version
        if untouched and seen in block.legal and len(block.legal) > 1 and is_current():
            block.legal = {seen: block.legal[seen]}
        return True

    def explains(self, ticket: LoadTicket, seen: int) -> bool:
        """Whether `seen` was legal at any moment of the load; nothing is concluded from it."""
        newer = ticket.next_version <= seen < self._blocks[ticket.key].next_version
        return newer or seen in ticket.legal

    def is_settled(self, key: BlockKey) -> bool:
        """Whether one version alone is legal, stores under way not counted."""
        return sum(ended is not None for ended in self._block(key).legal.values()) == 1

    def made_durable(self, key: BlockKey, version: int) -> None:
        """A writeback of `version` has completed."""
        block = self._block(key)
        block.durable = max(block.durable, version)

    def is_durable(self, key: BlockKey) -> bool:
        """Whether what the disk has is what a load may see now."""
        block = self._block(key)
        return block.durable in block.legal

    def found_on_disk(self, key: BlockKey, version: int) -> None:
        """A guest that has just started finds this version, of an earlier run, on its disk."""
        block = self._block(key)
        block.next_version = max(block.next_version, version + 1)
        block.durable = max(block.durable, version)
        self.lost(key)

    def lost(self, key: BlockKey) -> None:
        """Memory's copy is gone (power failure, truncate): the disk's is what there is."""
        block = self._block(key)
        block.begun.clear()
        self._now += 1
        block.legal = dict.fromkeys(range(block.durable, block.next_version), self._now)

    def power_failed(self) -> None:
        """`lost` for every block."""
        for key in self._blocks:
            self.lost(key)

    def stored(self) -> list[BlockKey]:
        """Every block that was ever stored to, ascending."""
        return sorted(key for key, block in self._blocks.items() if block.next_version > 1)

    def legal(self, key: BlockKey) -> list[int]:
        """The versions a load may see now."""
        return sorted(self._block(key).legal)
