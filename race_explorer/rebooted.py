"""What the vCPUs of a guest do that has booted again: one reads everything that should be there.

Rules:
- Every load is checked against the ledger, which has outlived the guest as its disk has.
"""

from __future__ import annotations

from collections.abc import Iterable

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Mapping
from guest_agent.kernel.syscalls import sys_read


async def nothing(_cpu: Cpu) -> None:
    """The program of a vCPU that only takes interrupts."""


async def read_again(files: Iterable[Mapping], cpu: Cpu) -> None:
    """After a boot: read every block that a guest before has stored to. Every load is checked.

    The files are open before its first step, as those of a scenario are.
    """
    kernel = cpu.kernel
    ordered = sorted(files, key=lambda file: file.first_block, reverse=True)
    again = [kernel.open_file(file.number, file.disk, file.first_block) for file in ordered]
    await kernel.boot(cpu)
    stored = kernel.ledger.stored()
    for file in again:
        for key in [key for key in stored if key[0] == file.disk and key[1] >= file.first_block]:
            stored.remove(key)
            await sys_read(cpu, file, key[1] - file.first_block, 1)
