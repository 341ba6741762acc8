"""Where host, guest and link keep their shared state, and which resource each place is.

What needs no declaration, and why; every entry weakens the check, so that there are few:
- FIXED: never changes once somebody else can see it. A step that changes it is caught.
- NUMBERS: numbers given out one after the other. In another order of independent steps other
  objects get them, and nothing else differs. Discard faults are delivered in the order of theirs.
- OBSERVED: statistics, history and the like, which no step looks at; a scenario's marks.
- DERIVED: follows from places that are recorded; who looks at it counts as looking at those.
- PASSING: made and taken in one step.
- POLICY: what only a reclaim policy looks at; the explorer names its victims itself.
- What a lock protects, for who holds it, as long as nobody else changes it without (`locks`);
  whether the asking vCPU itself holds one (`held_by`): nobody else can change that.
- A vCPU's own: its depth of interrupt disabling, its list of discarded pages.
- page->head and page->anonymous, and page->index of a file's page, while the page has references:
  they are set before the page is shown to anybody and cleared after the last reference is gone.
- That a pte is made on first use and removed with its vma: an empty one is the same as none.
- A mark that nobody takes back, once it is there (`final`).

What is not seen at all: variables that coroutines share by being nested, such as the set of
vCPUs that have not answered a call yet.
"""

from __future__ import annotations

from typing import Final

from race_explorer.checking.lens import Looks
from race_explorer.checking.places.address_spaces import ADDRESS_SPACES
from race_explorer.checking.places.host import HOST
from race_explorer.checking.places.link import LINK
from race_explorer.checking.places.lists import LISTS
from race_explorer.checking.places.oracle import ORACLE
from race_explorer.checking.places.pages import PAGES

PLACES: Final[dict[type, Looks]] = {**PAGES, **ADDRESS_SPACES, **LISTS, **ORACLE, **HOST, **LINK}
