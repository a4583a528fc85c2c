"""Enrollments in the API: who is inside, where everybody stands, and the acts on one person's way."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Listed
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from contacts.models import Contact
from kaanha.lib import pagination
from kaanha.lib.api_json import Nothing
from kaanha.lib.openapi import described, page_of
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI, missing
from kaanha.organizations.models import Organization
from sequences import counting, enrollments, seeing, standing
from sequences.models import Enrollment, Sequence
from sequences.seeing import RunView
from sequences.shapes import EnrollmentLineShown, EnrollmentShown, EnrollmentsQuery
from sequences.standing import Standing

RELATED = ("contact", "revision", *standing.RELATED)


def enrollments_shown(rows: Listed[Enrollment], organization: Organization) -> list[dict[str, Any]]:
    """Enrollments, read with RELATED, with where each stands. Four queries at the most."""
    here = standing.standings(rows, organization)
    return [_line(row, here.get(row.pk)) for row in rows]


def _line(row: Enrollment, here: Standing | None) -> dict[str, Any]:
    return {
        "id": row.public_id,
        "sequenceId": row.sequence.public_id,
        "contactId": row.contact.public_id,
        "phone": row.contact.phone,
        "status": row.status,
        "exitReason": row.exit_reason or None,
        "source": row.source,
        "revision": row.revision.number,
        "step": here and {"id": here.key, "place": here.place, "words": here.words},
        "goesOnAt": here and here.at,
        "waitsFor": (here and here.waits_for) or None,
        "enrolledAt": row.enrolled_at,
        "endedAt": row.ended_at,
    }


def _taken(view: RunView) -> dict[str, Any]:
    run, message = view.run, view.message
    return {
        "step": run.key,
        "place": view.place,
        "words": view.words,
        "at": run.at,
        "until": run.until,
        "endedAt": run.ended_at,
        "outcome": run.outcome or "waiting",
        "reason": run.reason or None,
        "messageId": message.public_id if message else None,
        "messageStatus": message.status if message else None,
    }


class EnrollmentAreaAPI(OwnedAPI):
    area = Area.CAMPAIGNS

    def enrollment(self, public_id: str) -> Enrollment:
        """The organization's enrollment of that id, with RELATED. One query."""
        rows = Enrollment.objects.of(self.organization).by_public_id(public_id).select_related(*RELATED)
        found: Enrollment | None = rows.first()
        if found is None:
            raise missing(Enrollment)
        found.sequence.organization = self.organization
        return found

    def shown(self, enrollment: Enrollment) -> Response:
        """The enrollment with its way. Eight queries at the most."""
        [told] = enrollments_shown([enrollment], self.organization)
        return Response({**told, "path": [_taken(view) for view in seeing.path(enrollment)]})


class EnrollmentsAPI(EnrollmentAreaAPI):
    """`/api/enrollments`."""

    @described("enrollments_list", query=EnrollmentsQuery, answers={200: page_of(EnrollmentLineShown)}, errors=(404,))
    def get(self, request: Request) -> Response:
        """The enrollments, the newest first; of one sequence, by contact, the oldest contact first."""
        asked = pagination.asked(request.query_params, EnrollmentsQuery)
        rows = Enrollment.objects.of(self.organization).select_related(*RELATED)
        by: tuple[str, ...] = ("-pk",)
        if "contact" in asked:
            rows = rows.filter(contact=self.found(Contact, asked["contact"]))
        sequence: Sequence | None = self.found(Sequence, asked["sequence"]) if "sequence" in asked else None
        if sequence is not None:
            # As the index has it: a million people aren't sorted for a page.
            rows, by = rows.filter(sequence=sequence), ("contact_id",)
        if "status" in asked:
            rows = rows.filter(status=asked["status"])
        total = None
        if not asked.keys() & {"cursor", "contact"}:
            total = counting.known_total(self.organization, sequence=sequence, status=asked.get("status"))
        return Response(pagination.paged(rows, asked, by=by, shown=self._shown, total=total))

    def _shown(self, rows: Listed[Enrollment]) -> list[dict[str, Any]]:
        return enrollments_shown(rows, self.organization)


class EnrollmentAPI(EnrollmentAreaAPI):
    """`/api/enrollments/{id}`."""

    @described("enrollments_get", answers={200: EnrollmentShown}, errors=(404,))
    def get(self, request: Request, enrollment: str) -> Response:
        """Where somebody stands in a sequence, what comes when, and the way so far."""
        return self.shown(self.enrollment(enrollment))


class EnrollmentActAPI(EnrollmentAreaAPI):
    def acted(self, public_id: str, act: Callable[..., None]) -> Response:
        self.asked(Nothing)
        found = self.enrollment(public_id)
        act(found, now=self.now)
        return self.shown(self.enrollment(public_id))


class EnrollmentPauseAPI(EnrollmentActAPI):
    """`/api/enrollments/{id}/pause`."""

    @described("enrollments_pause", body=Nothing, answers={200: EnrollmentShown}, errors=(404,))
    def post(self, request: Request, enrollment: str) -> Response:
        """Hold this person where it stands; a message on its way still goes."""
        return self.acted(enrollment, enrollments.pause)


class EnrollmentResumeAPI(EnrollmentActAPI):
    """`/api/enrollments/{id}/resume`."""

    @described("enrollments_resume", body=Nothing, answers={200: EnrollmentShown}, errors=(404,))
    def post(self, request: Request, enrollment: str) -> Response:
        """Let this person go on; what fell due meanwhile is due now."""
        return self.acted(enrollment, enrollments.resume)


class EnrollmentCancelAPI(EnrollmentActAPI):
    """`/api/enrollments/{id}/cancel`."""

    @described("enrollments_cancel", body=Nothing, answers={200: EnrollmentShown}, errors=(404,))
    def post(self, request: Request, enrollment: str) -> Response:
        """End this person's way for good; a message of it that is still queued is withdrawn."""
        return self.acted(enrollment, enrollments.cancel)
