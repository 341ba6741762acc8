"""A failing run as the commands show it: its story with the flip, on the terminal or in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from essa_cli.errors import CliError
from race_explorer.case import Case
from race_explorer.flip import minimal_flip, nearest_passing
from race_explorer.pictures.exports import chrome_trace, mermaid, shiviz, steps_jsonl
from race_explorer.pictures.html import html
from race_explorer.pictures.lanes import lanes
from race_explorer.pictures.story import Story, tell
from race_explorer.recording import Recording
from race_explorer.replays.token import token_of

EXPORTS: Final = {
    "steps": steps_jsonl,
    "mermaid": mermaid,
    "shiviz": shiviz,
    "chrome": chrome_trace,
}
"""What `essa races replay --export` writes, by name."""


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


def show(case: Case, recording: Recording, command: str, page: Path | None, *, quiet: bool) -> None:
    """Print the picture, if not quiet, and write the page, if there is to be one.

    How to replay the run is said below the picture, in lines that can be copied whole.
    """
    if quiet and page is None:
        return
    story = told(case, recording, command)
    if not quiet:
        print(picture(replace(story, replay_command="", token="")))
        print(f"replay: {command}\ntoken: {story.token}")
    if page is not None:
        write(page, html(story))


def write(path: Path, text: str) -> None:
    """Write a file. Raises CliError if that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
