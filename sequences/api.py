"""Sequences in the API: drafted, published, watched and stopped."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Listed
from dataclasses import asdict
from typing import Any

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from contacts.models import Tag
from kaanha.lib import pagination
from kaanha.lib.api_json import Nothing
from kaanha.lib.openapi import described, page_of
from kaanha.lib.pagination import WHOLE, PageQuery
from kaanha.messaging.counting import COLUMNS
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI, missing
from sequences import counting, editing, moving, publishing, running, seeing
from sequences.counting import PEOPLE, People
from sequences.models import Revision, Sequence, Status, Step
from sequences.seeing import StepView
from sequences.shapes import (
    Activation,
    NewSequence,
    RevisionLineShown,
    RevisionShown,
    SequenceChange,
    SequenceLineShown,
    SequenceMovedShown,
    SequenceShown,
    SequencesQuery,
    SequenceStatsShown,
)
from sequences.tree_nodes import measure
from sequences.trees import Problem

RELATED = editing.RELATED
LAST_REVISION = 2**31 - 1
EXAMPLE = {
    "name": "Basket",
    "trigger": "tag_added",
    "tag": "VIP",
    "steps": [
        {"id": "saved", "type": "message", "template": "cart_saved"},
        {"id": "pause", "type": "delay", "delay": {"days": 2}},
        {
            "id": "read",
            "type": "condition",
            "if": {"step": "saved", "reached": "read"},
            "no": [{"id": "last", "type": "message", "template": "last_chance", "whenCapped": "wait"}],
        },
    ],
}

# --- what is given -----------------------------------------------------------------------------------------------


def sequences_shown(sequences: Listed[Sequence]) -> list[dict[str, Any]]:
    """Sequences, read with RELATED, without their steps. Two queries."""
    people = counting.people([sequence.pk for sequence in sequences])
    revisions = Revision.objects.filter(sequence__in=sequences, superseded_at=None)
    newest = {revision.sequence_id: revision for revision in revisions}
    return [_line(one, newest.get(one.pk), people[one.pk]) for one in sequences]


def _line(sequence: Sequence, newest: Revision | None, people: People) -> dict[str, Any]:
    return {
        "id": sequence.public_id,
        "name": sequence.name,
        "status": sequence.status,
        **_start(sequence),
        "exitTag": _tag(sequence.exit_tag),
        "exitOnReply": sequence.exit_on_reply,
        "lateLimit": sequence.late_limit and dict([measure(sequence.late_limit)]),
        "whenLate": sequence.when_late,
        "spreadPerMinute": sequence.spread_per_minute,
        "revision": newest.number if newest else None,
        "unpublishedChanges": publishing.unpublished(sequence, newest),
        "people": _people(people),
        "activatedAt": sequence.first_activated_at,
        "pausedAt": sequence.paused_at,
        "archivedAt": sequence.archived_at,
        "createdAt": sequence.created_at,
        "updatedAt": sequence.updated_at,
    }


def _start(one: Sequence | Revision) -> dict[str, Any]:
    """What starts it, and the number that sends."""
    number = one.phone_number
    return {
        "trigger": one.trigger,
        "tag": _tag(one.trigger_tag),
        "phoneNumber": {"id": number.public_id, "number": str(number)},
    }


def _tag(tag: Tag | None) -> dict[str, Any] | None:
    return {"id": tag.public_id, "name": tag.name} if tag else None


def sequence_shown(sequence: Sequence) -> dict[str, Any]:
    """A sequence with its draft and what keeps that from being published. Six queries at the most."""
    [told] = sequences_shown([sequence])
    ended = sequence.status == Status.ARCHIVED
    problems = [] if ended else [_problem(one) for one in publishing.problems(sequence)]
    return {**told, "steps": sequence.draft, "problems": problems}


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "step": problem.key or None,
        "place": problem.place or None,
        "field": problem.path,
        "message": problem.sentence,
    }


def revisions_shown(revisions: Listed[Revision]) -> list[dict[str, Any]]:
    return [
        {
            "number": one.number,
            **_start(one),
            "publishedAt": one.published_at,
            "supersededAt": one.superseded_at,
        }
        for one in revisions
    ]


def stats_shown(sequence: Sequence) -> dict[str, Any]:
    """Its people and its steps in numbers. Twelve queries at the most."""
    revision, people = sequence.revision, seeing.people(sequence)
    views = seeing.steps(sequence, revision) if revision else []
    skipped = seeing.skips(sequence) if any(view.funnel and view.funnel.skipped for view in views) else {}
    return {
        "sequenceId": sequence.public_id,
        "revision": revision.number if revision else None,
        **_people(people),
        "exitedByReason": _by_reason(seeing.exits(sequence)),
        "refusedByReason": _by_reason(seeing.refusals(sequence)),
        "steps": [_step_stats(view, skipped.get(view.step.key, {})) for view in views],
    }


def _step_stats(view: StepView, skipped: Mapping[str, int]) -> dict[str, Any]:
    step, passage, funnel = view.step, view.passage, view.funnel
    asks = step.kind == Step.Kind.CONDITION
    return {
        "id": step.key,
        "place": step.place,
        "type": step.kind,
        "words": view.words,
        "arrived": passage.arrived,
        "waiting": passage.waiting,
        "passed": passage.passed,
        "left": passage.left,
        "yes": passage.yes if asks else None,
        "no": passage.no if asks else None,
        "funnel": funnel and {name: getattr(funnel, name) for name in ("waiting", *COLUMNS)},
        "skippedByReason": _by_reason(skipped),
        "held": view.held.hold_detail if view.held else None,
    }


def _people(people: People) -> dict[str, int]:
    return {name: getattr(people, name) for name in ("inside", *PEOPLE)}


def _by_reason(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"reason": reason, "count": count} for reason, count in counts.items()]


# --- sequences ---------------------------------------------------------------------------------------------------


class SequenceAreaAPI(OwnedAPI):
    area = Area.CAMPAIGNS

    def sequence(self, public_id: str) -> Sequence:
        """The organization's sequence of that id. One query."""
        rows = Sequence.objects.of(self.organization).by_public_id(public_id).select_related(*RELATED)
        sequence: Sequence | None = rows.first()
        if sequence is None:
            raise missing(Sequence)
        return sequence

    def shown(self, sequence: Sequence, code: int = status.HTTP_200_OK) -> Response:
        return Response(sequence_shown(sequence), status=code, headers={"ETag": sequence.version})


class SequencesAPI(SequenceAreaAPI):
    """`/api/sequences`."""

    @described("sequences_list", query=SequencesQuery, answers={200: page_of(SequenceLineShown)})
    def get(self, request: Request) -> Response:
        """The sequences, the newest first: all, by a part of their name, by status."""
        asked = pagination.asked(request.query_params, SequencesQuery)
        rows = Sequence.objects.of(self.organization).select_related(*RELATED)
        rows = rows.filter(name__icontains=asked.get("search", ""))
        if "status" in asked:
            rows = rows.filter(status=asked["status"])
        return Response(pagination.paged(rows, asked, by=("-created_at", "-pk"), shown=sequences_shown))

    @described("sequences_create", body=NewSequence, answers={201: SequenceShown}, errors=(404,), example=EXAMPLE)
    def post(self, request: Request) -> Response:
        """Create a draft.

        It may be incomplete: `problems` says what keeps it from being published. Nobody is enrolled before it is
        activated.
        """
        sequence = editing.create(self.organization, self.asked(NewSequence))
        return self.shown(sequence, status.HTTP_201_CREATED)


class SequenceAPI(SequenceAreaAPI):
    """`/api/sequences/{id}`."""

    @described("sequences_get", answers={200: SequenceShown}, errors=(404,))
    def get(self, request: Request, sequence: str) -> Response:
        """A sequence with its draft."""
        return self.shown(self.sequence(sequence))

    @described(
        "sequences_update",
        body=SequenceChange,
        answers={200: SequenceShown},
        errors=(404, 409),
        versioned=True,
        example={"name": "Basket", "exitOnReply": True, "lateLimit": {"hours": 12}, "whenLate": "skip"},
    )
    def patch(self, request: Request, sequence: str) -> Response:
        """Change what is sent.

        The trigger, its tag, the number and the steps hold from the next revision on, everything else at once.
        """
        said = self.asked(SequenceChange)
        return self.shown(editing.edit(self.sequence(sequence), said, versions=self.versions()))

    @described("sequences_delete", answers={204: None}, errors=(404, 409), versioned=True)
    def delete(self, request: Request, sequence: str) -> Response:
        """Delete a draft that was never activated."""
        editing.delete(self.sequence(sequence), versions=self.versions())
        return Response(status=status.HTTP_204_NO_CONTENT)


# --- acts --------------------------------------------------------------------------------------------------------


class SequenceActivateAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/activate`."""

    @described(
        "sequences_activate",
        body=Activation,
        answers={200: SequenceShown},
        errors=(404, 409),
        versioned=True,
        example={"enrollHolders": False},
    )
    def post(self, request: Request, sequence: str) -> Response:
        """Publish the draft as the first revision and let people in.

        422 `not_ready` names every problem. Who holds the trigger's tag already is enrolled on request only.
        """
        said, found = self.asked(Activation), self.sequence(sequence)
        existing = said.get("enroll_holders", False)
        publishing.activate(found, now=self.now, enroll_existing=existing, versions=self.versions())
        return self.shown(self.sequence(sequence))


class SequencePublishAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/publish`."""

    @described("sequences_publish", body=Nothing, answers={200: SequenceShown}, errors=(404, 409), versioned=True)
    def post(self, request: Request, sequence: str) -> Response:
        """Make the draft the next revision: new people take it, those inside stay on theirs."""
        self.asked(Nothing)
        publishing.publish(self.sequence(sequence), now=self.now, versions=self.versions())
        return self.shown(self.sequence(sequence))


class SequencePauseAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/pause`."""

    @described("sequences_pause", body=Nothing, answers={200: SequenceShown}, errors=(404,))
    def post(self, request: Request, sequence: str) -> Response:
        """Hold everybody where they are; a message on its way still goes."""
        self.asked(Nothing)
        running.pause(self.sequence(sequence), now=self.now)
        return self.shown(self.sequence(sequence))


class SequenceResumeAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/resume`."""

    @described("sequences_resume", body=Nothing, answers={200: SequenceShown}, errors=(404,))
    def post(self, request: Request, sequence: str) -> Response:
        """Let everybody go on; who fell due meanwhile goes one after the other, at the sequence's rate."""
        self.asked(Nothing)
        running.resume(self.sequence(sequence), now=self.now)
        return self.shown(self.sequence(sequence))


class SequenceArchiveAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/archive`."""

    @described("sequences_archive", body=Nothing, answers={200: SequenceShown}, errors=(404,))
    def post(self, request: Request, sequence: str) -> Response:
        """End it for good, for everybody inside, too.

        Nobody moves and nothing of it is sent from the answer on; of very many people some leave shortly after it.
        """
        self.asked(Nothing)
        running.archive(self.sequence(sequence), now=self.now, most=running.AT_ONCE)
        return self.shown(self.sequence(sequence))


class SequenceMoveAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/move`. Nobody is moved twice, and each batch is one transaction: no answer is kept."""

    idempotent = False

    @described("sequences_move", body=Nothing, answers={200: SequenceMovedShown}, errors=(404,))
    def post(self, request: Request, sequence: str) -> Response:
        """Move the people inside to the newest revision.

        At the same step where it still exists, otherwise at the first one after it that does. Nobody takes a step twice
        by being moved, or by the request being sent again. Of very many people
        some are moved shortly after the answer: `moving` says how many.
        """
        self.asked(Nothing)
        told = moving.move(self.sequence(sequence), now=self.now, most=running.AT_ONCE)
        return Response(asdict(told))


# --- watching ----------------------------------------------------------------------------------------------------


class SequenceStatsAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/stats`."""

    @described("sequences_stats", answers={200: SequenceStatsShown}, errors=(404,))
    def get(self, request: Request, sequence: str) -> Response:
        """What became of its people, and of the messages of each step."""
        return Response(stats_shown(self.sequence(sequence)))


class RevisionsAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/revisions`."""

    @described("sequences_revisions", query=PageQuery, answers={200: page_of(RevisionLineShown)}, errors=(404,))
    def get(self, request: Request, sequence: str) -> Response:
        """What was published, the newest first."""
        asked = pagination.asked(request.query_params, PageQuery)
        rows = self.sequence(sequence).revisions.select_related("phone_number", "trigger_tag").defer("tree")
        return Response(pagination.paged(rows, asked, by=("-number", "-pk"), shown=revisions_shown))


class RevisionAPI(SequenceAreaAPI):
    """`/api/sequences/{id}/revisions/{number}`."""

    @described("sequences_revision", answers={200: RevisionShown}, errors=(404,))
    def get(self, request: Request, sequence: str, number: str) -> Response:
        """What was published under this number, with its steps."""
        rows = self.sequence(sequence).revisions.select_related("phone_number", "trigger_tag")
        known = int(number) if WHOLE.fullmatch(number) else 0
        found = rows.filter(number=min(known, LAST_REVISION)).first()
        if found is None:
            raise missing(Revision)
        [told] = revisions_shown([found])
        return Response({**told, "steps": found.tree})
