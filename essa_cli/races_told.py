"""A failing run as the commands show it: its story with the flip, on the terminal or in a file."""

from __future__ import annotations

from pathlib import Path

from essa_cli.errors import CliError
from race_explorer.case import Case
from race_explorer.flip import minimal_flip, nearest_passing
from race_explorer.pictures.exports import chrome_trace, mermaid, shiviz
from race_explorer.pictures.lanes import lanes
from race_explorer.pictures.story import Story, tell
from race_explorer.recording import Recording
from race_explorer.replays.token import token_of

EXPORTS = {"mermaid": mermaid, "shiviz": shiviz, "chrome": chrome_trace}


def told(case: Case, recording: Recording, replay_command: str) -> Story:
    """The story of a run; of one that fails with the run in which it would not."""
    token = token_of(case, recording)
    passing, pair = None, None
    if recording.violations:
        flip = minimal_flip(case.build, recording)
        if flip is None:
            passing = nearest_passing(case.build, recording)
        else:
            passing, pair = flip.passing, (flip.first, flip.second)
    return tell(
        case, recording, passing=passing, flip=pair, replay_command=replay_command, token=token
    )


def picture(story: Story) -> str:
    """Lanes for a terminal."""
    found = lanes(story)
    return found if isinstance(found, str) else "\n".join(found)


def write(path: Path, text: str) -> None:
    """Write a file. Raises CliError if that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
