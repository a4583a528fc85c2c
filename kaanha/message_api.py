"""`/api/messages`. What asked for a message is known to the apps above messaging, so that its views stand here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from broadcasts.models import Broadcast, Trial
from kaanha.lib import pagination
from kaanha.lib.openapi import cursor_page_of, described
from kaanha.messaging import api as messaging
from kaanha.messaging.models import Dispatch, Message
from kaanha.organizations.api import missing
from sequences.models import Step

Kind = Dispatch.Kind


def messages_shown(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages with what asked for them. A query for each kind of origin at the most."""
    origins = _origins(messages)
    return [messaging.message_shown(one, origins[one.dispatch_id]) for one in messages]


class MessagesAPI(messaging.MessageAreaAPI):
    """`/api/messages`."""

    @described(
        "messages_list",
        query=messaging.MessagesQuery,
        answers={200: cursor_page_of(messaging.MessageShown)},
        errors=(404,),
    )
    def get(self, request: Request) -> Response:
        """The messages, the newest first: all, of a contact, a status, a template, since a time.

        With `status` or `template`, and no `contact`, an answer looks at 10,000 messages: it may hold fewer than
        `limit`, even none, and still have a `nextCursor`. Follow it to the end.
        """
        asked = pagination.asked(request.query_params, messaging.MessagesQuery)
        found, beyond = self.listed(asked)
        return Response({"data": messages_shown(found), "limit": asked["limit"], "nextCursor": beyond})

    @described(
        "messages_send",
        body=messaging.NewMessage,
        answers={202: messaging.MessageShown},
        errors=(404,),
        example={"contactId": "ct_…", "templateId": "tpl_…", "variables": {}},
    )
    def post(self, request: Request) -> Response:
        """Send one template to one contact.

        It is queued and leaves in a moment: 202. What becomes of it is told at its own address and by webhooks.
        """
        message = self.put_in(self.asked(messaging.NewMessage))
        [told] = messages_shown([message])
        return Response(told, status=status.HTTP_202_ACCEPTED)


class MessageAPI(messaging.MessageAreaAPI):
    """`/api/messages/{id}`."""

    @described("messages_get", answers={200: messaging.MessageShown}, errors=(404,))
    def get(self, request: Request, message: str) -> Response:
        """One message, with what became of it."""
        own = Message.objects.of(self.organization).by_public_id(message)
        found = messaging.complete(own).first()
        if found is None:
            raise missing(Message)
        [told] = messages_shown([found])
        return Response(told)


def _origins(messages: Sequence[Message]) -> dict[int, dict[str, Any]]:
    """What asked for each message, by its dispatch."""
    asked: dict[str, set[int]] = {}
    for one in messages:
        asked.setdefault(one.dispatch.kind, set()).add(one.dispatch_id)
    found = messaging.origins_known(messages)
    for broadcast in Broadcast.objects.filter(dispatch__in=asked[Kind.BROADCAST]) if Kind.BROADCAST in asked else ():
        found[broadcast.dispatch_id] = messaging.origin_shown(Kind.BROADCAST, broadcast=broadcast)
    trials = (
        Trial.objects.filter(dispatch__in=asked[Kind.TEST]).select_related("broadcast") if Kind.TEST in asked else ()
    )
    for trial in trials:
        found[trial.dispatch_id] = messaging.origin_shown(Kind.TEST, broadcast=trial.broadcast)
    for key, sequence in _sequences(asked.get(Kind.STEP, set())):
        found[key] = messaging.origin_shown(Kind.STEP, sequence=sequence)
    return found


def _sequences(dispatches: set[int]) -> list[tuple[int, Any]]:
    """The sequence of each of these dispatches; steps of several revisions may share one."""
    if not dispatches:
        return []
    steps = Step.objects.filter(dispatch__in=dispatches).order_by("dispatch", "-pk").distinct("dispatch")
    found = steps.select_related("revision__sequence")
    return [(step.dispatch_id, step.revision.sequence) for step in found if step.dispatch_id is not None]
