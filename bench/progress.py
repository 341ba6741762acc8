"""What a bench is at, as a bar on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Begins = Callable[[str], None]
"""Told what is measured next."""


@contextmanager
def shown(steps: int, width: int) -> Iterator[Begins]:
    """A bar of so many steps, names cut to a width; full at the end."""
    text = TextColumn(f"{{task.description:{width}.{width}}}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=steps)
        begun = 0

        def begins(name: str) -> None:
            nonlocal begun
            progress.update(task, description=name, completed=begun)
            begun += 1

        yield begins
        progress.update(task, description="done", completed=steps)
