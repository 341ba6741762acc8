"""A checkpoint comes back exactly as it was written, or is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_daemon import checkpoint
from host_daemon.checkpoint import CheckpointError

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.binary(max_size=50)
)
keys = st.one_of(st.integers(), st.text(max_size=10), st.tuples(st.integers(), st.integers()))
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(keys, inner, max_size=5),
    ),
    max_leaves=30,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=50,
    deadline=None,  # each example is synced to the disk
)
@given(plain)
def test_plain_data_round_trips(tmp_path: Path, value: Any) -> None:
    checkpoint.save(tmp_path, {"value": value})
    result = checkpoint.load(tmp_path)
    assert result == {"value": value}
    assert repr(result) == repr({"value": value})  # lists stay lists, tuples tuples, True True


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.uint32)[::2],
        np.zeros((0, 4096), np.uint8),
        np.array(7, dtype=np.int64),
    ],
)
def test_arrays_round_trip_and_are_writable(tmp_path: Path, array: Any) -> None:
    checkpoint.save(tmp_path, [b"before", array, b"after"])
    before, result, after = checkpoint.load(tmp_path)
    assert (before, after) == (b"before", b"after")
    assert result.dtype == array.dtype
    assert np.array_equal(result, array)
    assert result.shape == array.shape
    assert result.flags.writeable


def test_what_is_no_plain_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object is no plain data"):
        checkpoint.save(tmp_path, {"x": object()})
    assert checkpoint.load(tmp_path) is None


def test_a_checkpoint_is_used_once(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    path = checkpoint.save(tmp_path, {"a": 1})
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600
    assert checkpoint.load(tmp_path) == {"a": 1}
    checkpoint.consume(tmp_path)
    assert checkpoint.load(tmp_path) is None
    with pytest.raises(CheckpointError, match="cannot remove"):
        checkpoint.consume(tmp_path)


def test_every_damaged_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {"frames": bytes(range(64)), "sizes": [1, 2, (3, 4)]})
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path)
        path.write_bytes(good[:position])
        with pytest.raises(CheckpointError):
            checkpoint.load(tmp_path)
    path.write_bytes(good + b"x")
    with pytest.raises(CheckpointError, match="digest"):
        checkpoint.load(tmp_path)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*: No such file or directory$"):
        checkpoint.save(tmp_path / "absent", {})
