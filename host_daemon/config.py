"""The daemon's configuration: what people write, checked once, as one frozen value.

Rules:
- Every option can be said on the command line or, as ESSA_HOST_<NAME>, in the environment;
  the command line wins.
- Whatever makes no sense raises InvalidRequestError naming the option and the bound.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from host_daemon.core.config import FRAME_COUNT_MAX, SLOT_COUNT_MAX, HostConfig
from host_daemon.core.policies import policy_names
from shared.arch import PAGE_SIZE
from shared.errors import InvalidRequestError
from shared.identity import Role
from shared.metrics import metrics_address
from shared.rpc.channel import (
    DEFAULT_CONTROL,
    DEFAULT_LISTEN,
    Address,
    check_reach,
    parse_address,
)
from shared.rpc.tls_option import TLS_VARIABLE, tls_option
from shared.telemetry import FORMATS, LEVELS

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

_SIZE: Final = re.compile(r"([0-9]{1,15})(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)
_SHIFTS: Final = {"K": 10, "M": 20, "G": 30, "T": 40}

PAGING_TIMES_MEMORY: Final = 4
"""Default size of the paging device."""
LOW_WATERMARK_SHARE: Final = 32
HIGH_WATERMARK_SHARE: Final = 16
"""Default watermarks: one 32nd and one 16th of the frames."""


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Everything a daemon is started with.

    paging_file: None for a nameless file that goes with the process. state_dir: None for a
    daemon that keeps nothing over its end. metrics: where scrapers find it, or None. record: the
    directory of the run that it records.
    tls: what it shows and asks for on TCP; None for plain ports.
    """

    listen: tuple[Address, ...]
    control: Address
    host: HostConfig
    paging_file: Path | None
    state_dir: Path | None
    log_level: str
    log_format: str = "auto"
    metrics: Address | None = None
    record: Path | None = None
    tls: Tls | None = None


def wrong(option: str, value: object, bound: str) -> InvalidRequestError:
    """The error for an option's value."""
    text = f"{option} is {value}; it must be {bound}"
    return InvalidRequestError(text, field=option, value=str(value), bound=bound)


def parse_pages(text: str, option: str, high: int, low: int = 1) -> int:
    """Pages of 4 KiB, from a size such as `64M` or a plain number of pages; low to high."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise wrong(option, repr(text), "a size such as 64M, or a number of 4 KiB pages")
    count = int(found[1])
    if found[2]:
        size = count << _SHIFTS[found[2].upper()]
        if size % PAGE_SIZE:
            raise wrong(option, text, f"a multiple of {PAGE_SIZE // 1024}K")
        count = size // PAGE_SIZE
    if not low <= count <= high:
        raise wrong(option, text, f"{low} to {high} pages of 4 KiB")
    return count


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


class HostSettings(BaseSettings):
    """The options as people write them; `config` makes them a DaemonConfig."""

    model_config = SettingsConfigDict(env_prefix="ESSA_HOST_", extra="forbid")

    listen: Annotated[tuple[str, ...], NoDecode] = (DEFAULT_LISTEN,)
    control: str = DEFAULT_CONTROL
    memory: str = "64M"
    paging_file: Path | None = None
    paging_size: str | None = None
    policy: str = "hints-first"
    low_watermark: str | None = None
    high_watermark: str | None = None
    overcommit_paging: bool = False
    state_dir: Path | None = None
    record: Path | None = None
    log_level: str = "info"
    log_format: str = "auto"
    metrics: str | None = None
    insecure_metrics: bool = False
    insecure: bool = False
    tls: Path | None = None

    @field_validator("listen", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(value.split()) if isinstance(value, str) else value

    def config(self) -> DaemonConfig:
        """Check everything. Raises InvalidRequestError."""
        if self.policy not in policy_names():
            raise wrong("--policy", repr(self.policy), f"one of {', '.join(policy_names())}")
        if self.log_level not in LEVELS:
            raise wrong("--log-level", repr(self.log_level), f"one of {', '.join(LEVELS)}")
        if self.log_format not in FORMATS:
            raise wrong("--log-format", repr(self.log_format), f"one of {', '.join(FORMATS)}")
        if self.state_dir is not None and not self.state_dir.is_dir():
            raise wrong("--state-dir", self.state_dir, "a directory that exists")
        if self.state_dir is not None and self.record is not None:
            text = "--record is for a run from its beginning to its end; leave out --state-dir"
            raise InvalidRequestError(text, field="--record")
        paging_file = self.paging_file
        if paging_file is None and self.state_dir is not None:
            paging_file = self.state_dir / "paging"
        return DaemonConfig(
            listen=self._addresses(),
            control=self._address(self.control, "--control"),
            host=self._host(),
            paging_file=paging_file,
            state_dir=self.state_dir,
            log_level=self.log_level,
            log_format=self.log_format,
            metrics=self._metrics(),
            record=self.record,
            tls=self._tls(),
        )

    def _tls_directory(self) -> Path | None:
        shared_one = os.environ.get(TLS_VARIABLE)
        return self.tls or (Path(shared_one) if shared_one else None)

    def _tls(self) -> Tls | None:
        directory = self._tls_directory()
        return tls_option(directory, insecure=self.insecure, roles=(Role.HOST,))

    def _addresses(self) -> tuple[Address, ...]:
        if not self.listen:
            raise InvalidRequestError("--listen is missing", field="--listen")
        addresses = tuple(self._address(text, "--listen") for text in self.listen)
        control = self._address(self.control, "--control")
        for number, address in enumerate(addresses):
            taken = (*addresses[:number], control)
            if address in taken and (address.path or address.port):
                raise wrong("--listen", address, "a different address for every socket")
        return addresses

    def _metrics(self) -> Address | None:
        if self.metrics is None:
            return None
        return metrics_address(self.metrics, "--metrics", exposed=self.insecure_metrics)

    def _address(self, text: str, option: str) -> Address:
        address = parse_address(text, option)
        protected = self.insecure or self._tls_directory() is not None
        check_reach(address, option, protected=protected)
        return address

    def _host(self) -> HostConfig:
        frames = parse_pages(self.memory, "--memory", FRAME_COUNT_MAX)
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // PAGE_SIZE
        if frames > machine:
            raise wrong("--memory", self.memory, f"at most this machine's {machine} pages of 4 KiB")
        slots = min(PAGING_TIMES_MEMORY * frames, SLOT_COUNT_MAX)
        if self.paging_size is not None:
            slots = parse_pages(self.paging_size, "--paging-size", SLOT_COUNT_MAX)
        low, high = self._watermarks(frames)
        config = HostConfig(
            frame_count=frames,
            slot_count=slots,
            low_watermark=low,
            high_watermark=high,
            policy=self.policy,
            overcommit_paging=self.overcommit_paging,
        )
        config.check()
        return config

    def _watermarks(self, frames: int) -> tuple[int, int]:
        low = high = None
        if self.low_watermark is not None:
            low = parse_pages(self.low_watermark, "--low-watermark", frames)
        if self.high_watermark is not None:
            high = parse_pages(self.high_watermark, "--high-watermark", frames)
        if low is None:
            low = min(frames // LOW_WATERMARK_SHARE, frames if high is None else high)
        if high is None:
            high = max(frames // HIGH_WATERMARK_SHARE, low)
        if low > high:
            raise wrong("--low-watermark", low, f"at most --high-watermark, {high}")
        return low, high


def parse(options: dict[str, Any]) -> DaemonConfig:
    """The configuration from the options given and the environment."""
    try:
        settings = HostSettings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        option = _option(str(first["loc"][0]))
        raise wrong(option, repr(first["input"]), f"valid: {first['msg']}") from None
    return settings.config()
