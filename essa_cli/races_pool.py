"""Searches over processes, within a time.

Rules:
- Seconds only cap what is done: what came to its end is the same for any number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TypeVar

Task = TypeVar("Task", bound=Hashable)
Result = TypeVar("Result")


def examined(
    work: Callable[[Task], Result], chunks: Sequence[Sequence[Task]], *, jobs: int, seconds: float
) -> dict[Task, Result]:
    """What came of every task that was done within the time, in the order given.

    chunks: tasks that a process does without being asked in between; they are begun in order.
    """
    end = time.monotonic() + seconds
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    running = {pool.submit(_done, work, chunk): chunk for chunk in chunks}
    done, late = wait(running, timeout=max(0.0, end - time.monotonic()))
    for process in list((pool._processes or {}).values()) if late else []:
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)
    return {
        task: result
        for future, chunk in running.items()
        if future in done
        for task, result in zip(chunk, future.result(), strict=True)
    }


def _done(work: Callable[[Task], Result], chunk: Sequence[Task]) -> list[Result]:
    return [work(task) for task in chunk]
