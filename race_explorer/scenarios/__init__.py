"""The scenario library: one readable file a race, the story in its docstring."""

from __future__ import annotations

from typing import Final

from race_explorer.scenarios import (
    borrowed_reference,
    concurrent_discard_faults,
    counts_apart,
    dirty_bit_in_transit,
    freed_while_fault_pending,
    make_stable_overtakes,
    stale_change_bit,
    writable_flag_taken,
)
from race_explorer.scenarios.scenario import Scenario

SCENARIOS: Final[dict[str, Scenario]] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        make_stable_overtakes,
        dirty_bit_in_transit,
        concurrent_discard_faults,
        freed_while_fault_pending,
        stale_change_bit,
        counts_apart,
        writable_flag_taken,
        borrowed_reference,
    )
}
