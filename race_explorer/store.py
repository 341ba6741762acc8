"""A guest's disk that is a dictionary: for the explorer, and for guests without processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from guest_agent.kernel.block import Block
from guest_agent.kernel.content import TAGS_PER_PAGE, tag


@dataclass(slots=True)
class MemoryStore:
    """A disk in memory. blocks: (disk, block) -> content."""

    blocks: dict[tuple[int, int], Block] = field(default_factory=dict)

    async def read(self, disk: int, block: int) -> Block:
        """The block, or version 0 of it."""
        return self.blocks.get((disk, block), (tag(disk, block, 0), TAGS_PER_PAGE))

    async def write(self, disk: int, block: int, content: Block) -> None:
        """Replace the block."""
        self.blocks[disk, block] = content
