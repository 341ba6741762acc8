"""One HTML file that shows a story: it opens from anywhere, and fetches nothing.

Rules:
- Whatever a story says goes in as JSON, or escaped as text; scripts put it on the page as text.
- Without scripts the terminal's picture is shown.
"""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from race_explorer.pictures.document import Json, document
from race_explorer.pictures.lanes import lanes
from race_explorer.pictures.story import STEPS_MAX, Story

_SCRIPTS: Final = ("layout.js", "chart.js", "panel.js", "page.js")


def html(story: Story, steps_max: int = STEPS_MAX) -> str:
    """The whole page. steps_max: of each run's end, to show."""
    return Template(_part("page.html")).substitute(
        title=escape(story.title),
        headline=escape(story.headline),
        style=_part("page.css"),
        data=embedded(document(story, steps_max)),
        script="\n".join(map(_part, _SCRIPTS)),
        plain=escape("\n".join(lanes(story, steps_max=steps_max))),
    )


def embedded(value: Json) -> str:
    """JSON that may stand between script tags: nothing in it ends one, or begins a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _part(name: str) -> str:
    return (files(__package__) / "page" / name).read_text("utf-8")
