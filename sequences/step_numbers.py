"""The numbers that stand at a published step: who waits there, how the others went on, what became of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from kaanha.messaging.admin import address_of
from kaanha.messaging.counting import Funnel
from sequences import running, seeing
from sequences.models import Revision, Sequence
from sequences.seeing import StepView
from sequences.trees import Kind


@dataclass(frozen=True)
class Number:
    """A number below a step, with where it leads."""

    count: int
    words: str
    link: str = ""
    bad: bool = False
    waits: bool = False

    @property
    def css(self) -> str:
        """How it stands out, or doesn't: what waits here, what is none, what went wrong."""
        if not self.count:
            return "k-none"
        return "k-waits" if self.waits else "k-went-wrong" if self.bad else "k-some"


@dataclass(frozen=True)
class Counts:
    """A step's people and its messages, and why it is held; nothing of a step that isn't published."""

    numbers: list[Number] = field(default_factory=list)
    funnel: list[Number] = field(default_factory=list)
    held: str = ""


def by_step(sequence: Sequence, revision: Revision) -> Mapping[str, Counts]:
    """The numbers of the revision's steps, by key, in the same number of queries whatever there is."""
    return {view.step.key: counts(sequence, view) for view in seeing.steps(sequence, revision)}


def counts(sequence: Sequence, view: StepView) -> Counts:
    """What stands at the step."""
    funnel = view.funnel
    sent = _funnel(view, funnel) if funnel is not None and funnel.total else []
    return Counts(_numbers(sequence, view), sent, _held(view))


def _numbers(sequence: Sequence, view: StepView) -> list[Number]:
    """Who waits here, and how the others went on. What is seldom is shown only where it is there."""
    passage, kind = view.passage, view.step.kind
    if not passage.arrived:
        return [Number(0, "people yet")]
    waiting = Number(passage.waiting, "waiting", people_url(sequence, step=view.step.key), waits=True)
    if kind == Kind.CONDITION:
        ways = [Number(passage.yes, "took Yes"), Number(passage.no, "took No")]
    else:
        ways = [Number(passage.passed, "passed")]
    if kind == Kind.MESSAGE:
        ways += [
            Number(passage.skipped, "skipped", _messages_url(view, "skipped") if passage.skipped else ""),
            Number(passage.failed, "failed", bad=passage.failed > 0),
        ]
    seldom = [Number(passage.unconfirmed, "unconfirmed"), Number(passage.left, "left here")]
    return [waiting, *ways, *(number for number in seldom if number.count)]


def _funnel(view: StepView, funnel: Funnel) -> list[Number]:
    url = _messages_url(view)
    delivered = f"delivered{_rate(funnel.delivered, funnel.dispatched)}"
    return [
        Number(funnel.dispatched, "sent", url),
        Number(funnel.delivered, delivered, url),
        Number(funnel.read, f"read{_rate(funnel.read, funnel.delivered)}", _messages_url(view, "read")),
        Number(funnel.failed, "failed", _messages_url(view, "failed"), bad=funnel.failed > 0),
    ]


def _messages_url(view: StepView, status: str = "") -> str:
    """The list of the step's messages, of all revisions as they are counted, where the skipped say why."""
    url = address_of(view.dispatches)
    return f"{url}&status__exact={status}" if status else url


def _rate(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.0f}\N{NO-BREAK SPACE}%)" if whole else ""


def _held(view: StepView) -> str:
    trouble = view.held is not None and view.held.hold_reason not in running.OWN_HOLDS
    return view.held.hold_detail if view.held and trouble else ""


def people_url(sequence: Sequence, **query: Any) -> str:
    """The list of the sequence's people, narrowed by its filters."""
    return f"{reverse('admin:sequences_enrollment_changelist')}?{urlencode({'sequence': sequence.pk, **query})}"
