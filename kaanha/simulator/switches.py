"""The switches that can be turned while the simulator runs: in JSON camelCase, in Python snake_case."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kaanha.simulator.outcomes import PLANS, Fault

Span = tuple[float, float]  # seconds, from and to

DELAYS: dict[str, Span] = {
    "sent": (0.1, 0.5),
    "delivered": (0.3, 1.5),
    "read": (0.5, 3.0),
    "failed": (0.1, 0.8),
    "release": (1.0, 3.0),  # how long a held message waits for Meta's decision
    "reply": (0.2, 1.0),
}
PROFILE = {"read": 60.0, "delivered": 34.0, "readWithoutDelivered": 2.0, "sent": 3.0, "undeliverable": 1.0}


@dataclass(slots=True)
class Forced:
    """A fault laid on the next requests, or a failure on the next messages.

    Exactly one of: `status` (an HTML page with this HTTP status), `error` (a Graph error), `fault` (one of
    outcomes.Fault), `callback` ({"code": …}: accepted, then failed). It ends after `count` requests or `seconds`;
    `share`, `to` (ending of the number) and `template` narrow it down; `on` is messages, management or all.
    """

    status: int | None = None
    error: Mapping[str, Any] | None = None
    fault: Fault | None = None
    callback: Mapping[str, Any] | None = None
    count: int | None = None
    seconds: float | None = None
    share: float = 1.0
    to: str = ""
    template: str | None = None
    on: str = "messages"
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        given = [name for name in ("status", "error", "fault", "callback") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("A forced fault needs exactly one of status, error, fault and callback.")
        if self.on not in ("messages", "management", "all"):
            raise ValueError("`on` of a forced fault is messages, management or all.")
        for coded in (self.error, self.callback):
            if coded is not None and not isinstance(coded.get("code"), int):
                raise ValueError('A forced error reads like {"code": 131042}.')
        if self.fault is not None:
            self.fault = Fault(self.fault)

    @property
    def over(self) -> bool:
        """Whether it has run out."""
        ended = self.seconds is not None and time.monotonic() > self.since + self.seconds
        return ended or (self.count is not None and self.count <= 0)

    def as_json(self) -> dict[str, Any]:
        """What was asked for, with the count that is left."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "since"}
        return {name: value for name, value in given.items() if value not in (None, "")}


@dataclass(slots=True)
class Switches:
    """Every switch with its value. `update` checks and sets, all or none."""

    speed: float = 1.0  # divides every delay
    latency: Span = (0.0, 0.0)  # seconds until a message is answered; Meta takes 0.05 to 0.4
    delays: dict[str, Span] = field(default_factory=lambda: dict(DELAYS))
    profile: dict[str, float] = field(default_factory=lambda: dict(PROFILE))
    cards: bool = True
    marketing_to_united_states: bool = False  # Meta delivers none: failed 131049
    wa_id_rewritten: bool = True  # Mexico, Argentina, Brazil
    template_approval: Span = (1.0, 3.0)
    template_verdict: str = "APPROVED"
    empty_page: bool = False
    throughput: int | None = None  # messages a second of each number
    pair_rate: bool = False
    messaging_limit: int | None = None  # unique people in 24 hours; above it failed 131048
    management_limit: int | None = None  # calls in an hour
    batch: int = 100  # events in one callback at most; Meta goes up to 1000
    gather: float = 0.02  # seconds in which events are collected
    concurrency: int = 8  # callbacks on their way at once
    callback_timeout: float = 20.0
    retry_gaps: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # Meta's 7 days, compressed; the last repeats
    retry_for: float = 900.0
    duplicate: float = 0.0  # share of events that come twice
    reorder: float = 0.0  # share of messages whose statuses come in any order
    drop: float = 0.0  # share of events that never come
    early: float = 0.0  # share of messages whose sent status comes before the answer
    missing_errors: float = 0.0  # share of failed statuses without `errors`
    oddities: float = 0.0  # share of events with fields that nobody has documented
    callback_version: int = 25  # up to 23 statuses carry `conversation`
    force: list[Forced] = field(default_factory=list)

    def update(self, changes: Mapping[str, Any]) -> None:
        """Set what is named, in either spelling. Raises ValueError, a sentence, and sets nothing if one is wrong."""
        known = {each.name: each for each in fields(self)}
        checked: dict[str, Any] = {}
        for written, value in changes.items():
            name = snake(written)
            if name not in known:
                raise ValueError(f"There is no setting {written}; there are {', '.join(map(camel, known))}.")
            checked[name] = self._checked(name, written, value)
        for name, value in checked.items():
            setattr(self, name, value)

    def _checked(self, name: str, written: str, value: Any) -> Any:
        try:
            check = _CHECKS.get(name)
            return check(self, value) if check else _like(getattr(self, name), value)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{value!r} is no value for {written}.") from error
        except ValueError as error:
            raise ValueError(f"{written}: {error}") from error

    def as_json(self) -> dict[str, Any]:
        """Every switch by its JSON name."""
        everything = {camel(each.name): getattr(self, each.name) for each in fields(self)}
        return everything | {"force": [forced.as_json() for forced in self.force if not forced.over]}


def camel(name: str) -> str:
    """snake_case as camelCase."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def snake(name: str) -> str:
    """camelCase as snake_case."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def span(value: Any) -> Span:
    """A span of seconds from a number, a pair, or text such as "0.05-0.4"."""
    if isinstance(value, str):
        value = [float(part) for part in value.split("-")]
    low, high = (value, value) if isinstance(value, int | float) else value
    if not 0 <= low <= high:
        raise ValueError("a span of seconds is a pair like [0.1, 0.5].")
    return float(low), float(high)


def _like(current: Any, value: Any) -> Any:
    """`value`, if it is of the kind of the current one."""
    if isinstance(current, bool):
        if not isinstance(value, bool):
            raise ValueError("true or false.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError("a number that is not negative.")
    return type(current)(value)


def _share(_: Switches, value: Any) -> float:
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError("a share between 0 and 1.")
    return float(value)


def _positive(_: Switches, value: Any) -> float:
    if isinstance(value, bool) or value <= 0:
        raise ValueError("a number above 0.")
    return float(value)


def _whole(_: Switches, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number from 1.")
    return value


def _optional(switches: Switches, value: Any) -> int | None:
    return None if value is None else _whole(switches, value)


def _batch(switches: Switches, value: Any) -> int:
    if _whole(switches, value) > 1000:
        raise ValueError("a whole number from 1 to 1000.")
    return int(value)


def _delays(switches: Switches, value: Any) -> dict[str, Span]:
    unknown = set(value) - set(DELAYS)
    if unknown:
        raise ValueError(f"no such delay: {', '.join(sorted(unknown))}.")
    return switches.delays | {name: span(each) for name, each in value.items()}


def _profile(_: Switches, value: Any) -> dict[str, float]:
    unknown = set(value) - set(PLANS)
    if unknown or sum(value.values()) <= 0:
        raise ValueError(f"weights for {', '.join(PLANS)}.")
    return {name: float(weight) for name, weight in value.items()}


def _verdict(_: Switches, value: Any) -> str:
    if value not in ("APPROVED", "REJECTED"):
        raise ValueError("APPROVED or REJECTED.")
    return str(value)


def _gaps(_: Switches, value: Any) -> tuple[float, ...]:
    if not value or min(value) < 0:
        raise ValueError("a list of seconds.")
    return tuple(map(float, value))


def _version(_: Switches, value: Any) -> int:
    return int(float(str(value).removeprefix("v")))


def _forced(_: Switches, value: Any) -> list[Forced]:
    several = [] if value is None else value if isinstance(value, list) else [value]
    return [Forced(**each) for each in several]


_CHECKS: dict[str, Callable[[Switches, Any], Any]] = {
    "speed": _positive,
    "latency": lambda _, value: span(value),
    "template_approval": lambda _, value: span(value),
    "template_verdict": _verdict,
    "delays": _delays,
    "profile": _profile,
    "throughput": _optional,
    "messaging_limit": _optional,
    "management_limit": _optional,
    "batch": _batch,
    "concurrency": _whole,
    "retry_gaps": _gaps,
    "callback_version": _version,
    "force": _forced,
} | dict.fromkeys(("duplicate", "reorder", "drop", "early", "missing_errors", "oddities"), _share)
