"""What of contacts and tags in the API needs to see the apps above: the timeline, and deleting a tag that is in use."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import transaction
from django.db.models import Q, TextField
from django.db.models.functions import Cast
from rest_framework.request import Request
from rest_framework.response import Response

from broadcasts.models import Broadcast
from contacts import api as contacts
from contacts.models import AutoTagRule, Tag
from kaanha import timeline
from kaanha.lib import pagination
from kaanha.lib.errors import Refusal
from kaanha.lib.openapi import described
from kaanha.lib.pagination import CursorQuery
from kaanha.organizations.api import missing
from kaanha.timeline_shapes import TimelinePage
from sequences import models as sequences
from sequences.models import Sequence, Step


class TimelineAPI(contacts.ContactAreaAPI):
    """`/api/contacts/{id}/timeline`."""

    @described("contacts_timeline", query=CursorQuery, answers={200: TimelinePage}, errors=(404,))
    def get(self, request: Request, contact: str) -> Response:
        """What happened to the contact, the latest first. The queries don't depend on how much it was."""
        asked = pagination.asked(request.query_params, CursorQuery)
        return Response(timeline.page(self.contact(contact), limit=asked["limit"], after=asked.get("cursor")))


class TagAPI(contacts.TagAPI):
    """`/api/tags/{id}`."""

    @described("tags_delete", answers={200: contacts.TagShown}, errors=(404, 409), versioned=True)
    def delete(self, request: Request, tag: str) -> Response:
        """Delete the tag, off every contact: 200 with what it was. 409 while something uses it."""
        found = self.found(Tag, tag)
        with transaction.atomic():
            held = Tag.objects.select_for_update().filter(pk=found.pk).first()
            if held is None:
                raise missing(Tag)
            self.check_version(held)
            if used := list(_uses(held)):
                raise Refusal(f"The tag {held} is used by {', '.join(used)}. Change that first.", code="tag_in_use")
            answer = self.shown(held)
            held.delete()
        return answer


def _uses(tag: Tag) -> Iterator[str]:
    """What would lose the tag: the first of each kind, in words. Three queries."""
    begins_or_ends = Q(trigger_tag=tag) | Q(exit_tag=tag)
    asks = Q(written__contains=tag.public_id) | Q(pk__in=Step.objects.filter(tag=tag).values("revision__sequence"))
    live = asks & ~Q(status=sequences.Status.ARCHIVED)
    drafts = Sequence.objects.of(tag.organization_id).alias(written=Cast("draft", TextField()))
    if (sequence := drafts.filter(begins_or_ends | live).order_by("pk").first()) is not None:
        yield f"the sequence {sequence}"
    planned = Broadcast.objects.of(tag.organization_id).filter(started_at=None, completed_at=None)
    chosen = planned.exclude(status__in=("canceled", "failed")).filter(Q(tags=tag) | Q(excluded_tags=tag))
    if (broadcast := chosen.order_by("pk").first()) is not None:
        yield f"the broadcast {broadcast}"
    if AutoTagRule.objects.of(tag.organization_id).filter(tag=tag).exists():
        yield "a rule for tags"
