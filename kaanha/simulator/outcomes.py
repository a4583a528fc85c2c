"""What becomes of a message: the test cards, chosen by the last two digits of the recipient, and the seeded profile.

A plan is a list of steps. Each step happens a random while after the one before it; the span is looked up in the
settings' `delays` under the step's own name for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Ways in which an answer goes wrong; the first four leave nothing accepted."""

    ERROR = "error"  # a Graph error in JSON
    HTML = "html"  # an HTML page from a gateway
    RESET = "reset"  # the connection breaks
    TOO_MANY = "tooMany"  # HTTP 429 with a Graph error
    ACCEPTED_HTML = "acceptedHtml"
    ACCEPTED_RESET = "acceptedReset"
    HANG = "hang"  # no answer until the client gives up
    TRUNCATED = "truncated"  # 200 with half of the JSON
    WITHOUT_ID = "withoutId"  # 200 without a message id


ACCEPTING = frozenset({Fault.ACCEPTED_HTML, Fault.ACCEPTED_RESET, Fault.HANG, Fault.TRUNCATED, Fault.WITHOUT_ID})


@dataclass(frozen=True, slots=True)
class Step:
    """One event: a status, or what the person does (`reply`). `delay` names the span before it."""

    kind: str
    delay: str
    code: int | None = None
    share: float = 1.0  # of the span


SENT = Step("sent", "sent")
DELIVERED = Step("delivered", "delivered")
READ = Step("read", "read")

PLANS: dict[str, tuple[Step, ...]] = {
    "read": (SENT, DELIVERED, READ),
    "delivered": (SENT, DELIVERED),
    "sent": (SENT,),
    "silence": (),
    "readFast": (SENT, Step("delivered", "delivered", share=0.1), Step("read", "read", share=0.1)),
    "readWithoutDelivered": (SENT, READ),
    "undeliverable": (Step("failed", "failed", 131026),),
    "sentThenFailed": (SENT, Step("failed", "failed", 131000)),
    "failedThenDelivered": (Step("failed", "failed", 131026), DELIVERED),
    "held": (Step("sent", "release"), DELIVERED, READ),
}


def failing(code: int) -> tuple[Step, ...]:
    """The plan of a message that is accepted and then fails with `code`."""
    return (Step("failed", "failed", code),)


@dataclass(frozen=True, slots=True)
class Card:
    """A test card: what happens to messages to numbers with this ending.

    `fault` spoils the first `times` answers to each message; what is accepted then follows `plan`, and `reply` is what
    the person does after reading. `code` is Meta's code of the refusal or failure. `marketing`: only marketing
    templates are concerned, everything else goes as `plan` says.
    """

    ending: str
    title: str
    plan: str = "delivered"
    code: int | None = None
    fault: Fault | None = None
    times: int | None = None  # None: every time
    reply: str | None = None
    held: bool = False
    marketing: bool = False


CARDS: dict[str, Card] = {
    card.ending: card
    for card in (
        Card("26", "accepted, then failed 131026: not on WhatsApp", plan="undeliverable"),
        Card(
            "29", "the first answer is HTTP 429 with 130429, then it works", fault=Fault.TOO_MANY, times=1, code=130429
        ),
        Card("31", "sent, then failed 131000", plan="sentThenFailed"),
        Card(
            "49",
            "accepted, then failed 131049 if it is marketing: enough marketing for this person",
            code=131049,
            marketing=True,
        ),
        Card(
            "50",
            "accepted, then failed 131050 if it is marketing, until the person resumes marketing",
            code=131050,
            marketing=True,
        ),
        Card("56", "the first answer is 131056, pair rate, then it works", fault=Fault.ERROR, times=1, code=131056),
        Card("60", "read fast", plan="readFast"),
        Card("61", "delivered, never read"),
        Card("62", "stays sent: never delivered", plan="sent"),
        Card("63", "read without a delivered status", plan="readWithoutDelivered"),
        Card("64", "failed 131026, and delivered later all the same", plan="failedThenDelivered"),
        Card("65", "held for quality assessment, then released and read", plan="held", held=True),
        Card(
            "70",
            "the first two answers are HTTP 500 with 131000, then it works",
            fault=Fault.ERROR,
            times=2,
            code=131000,
        ),
        Card("71", "accepted and delivered, but the 200 carries no message id", fault=Fault.WITHOUT_ID),
        Card(
            "72", "accepted, then failed 130472 if it is marketing: part of an experiment", code=130472, marketing=True
        ),
        Card(
            "73",
            "the first two answers are HTTP 503 with 133004, then it works",
            fault=Fault.ERROR,
            times=2,
            code=133004,
        ),
        Card(
            "74",
            "the first answer is an HTML page with HTTP 500 and nothing is accepted, then it works",
            fault=Fault.HTML,
            times=1,
        ),
        Card("75", "accepted and delivered, but the answer is an HTML page with HTTP 500", fault=Fault.ACCEPTED_HTML),
        Card(
            "76", "the connection is reset before anything is accepted, once, then it works", fault=Fault.RESET, times=1
        ),
        Card("77", "accepted and delivered, but the connection is reset", fault=Fault.ACCEPTED_RESET),
        Card("78", "accepted and delivered, but no answer comes until the client gives up", fault=Fault.HANG),
        Card("79", "accepted and delivered, but the JSON of the 200 is cut in half", fault=Fault.TRUNCATED),
        Card("80", "reads, and replies STOP", plan="readFast", reply="stop"),
        Card("81", "reads, and replies quoting the message", plan="readFast", reply="quote"),
        Card("82", "reads, and writes without quoting", plan="readFast", reply="text"),
        Card(
            "83",
            "reads, and taps the first quick reply; replies quoting where there is none",
            plan="readFast",
            reply="button",
        ),
        Card("84", "reads, and stops marketing with WhatsApp's own switch", plan="readFast", reply="preference"),
        Card("90", "accepted, then silence", plan="silence"),
    )
}


def card_of(digits: str) -> Card | None:
    """The test card of a number, if it is one."""
    return CARDS.get(digits[-2:])


def profile_of(wa_id: str, *, seed: int, weights: Mapping[str, float]) -> str:
    """The plan of an ordinary person: always the same one for the same seed and weights."""
    total = sum(weights.values())
    point = zlib.crc32(f"{seed}:{wa_id}".encode()) / 0x1_0000_0000 * total
    for name, weight in weights.items():
        point -= weight
        if point < 0:
            return name
    return next(iter(weights))
