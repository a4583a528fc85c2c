"""The API's table of contents: every address under /api/, with and without a slash at its end."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import URLPattern, re_path
from django.views import defaults
from rest_framework.request import Request
from rest_framework.views import APIView

from broadcasts import api as broadcasts
from contacts import api as contacts
from kaanha import api_docs, contact_api, message_api, request_limits
from kaanha.lib import api_errors
from kaanha.webhooks import api as webhooks
from kaanha.whatsapp.api import StatusAPI
from sequences import api as sequences
from sequences import enrollment_api as enrollments
from sequences.enroll_api import EnrollAPI
from templates_app import api as templates

PREFIX = "/api/"
CONTACT = "contacts/(?P<contact>[^/]+)"
BROADCAST = "broadcasts/(?P<broadcast>[^/]+)"
SEQUENCE = "sequences/(?P<sequence>[^/]+)"
ENROLLMENT = "enrollments/(?P<enrollment>[^/]+)"
DELIVERY = "webhook-deliveries/(?P<delivery>[^/]+)"
WEBHOOK = "webhooks/(?P<endpoint>[^/]+)"


class NothingHereAPI(APIView):
    """Every address that isn't one: 404, whoever asks and however."""

    authentication_classes = []
    permission_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Http404


def at(address: str, view: type[APIView], name: str) -> URLPattern:
    """The view at /api/`address`."""
    return re_path(rf"^{address}/?\Z", view.as_view(), name=name)


urlpatterns = [
    at("openapi.json", api_docs.DocumentAPI, "openapi"),
    at("docs", api_docs.DocsView, "api_docs"),
    at("status", StatusAPI, "status"),
    at("contacts", contacts.ContactsAPI, "contacts"),
    at(CONTACT, contacts.ContactAPI, "contact"),
    at(f"{CONTACT}/tags", contacts.ContactTagsAPI, "contact_tags"),
    at(f"{CONTACT}/tags/(?P<tag>.+?)", contacts.ContactTagAPI, "contact_tag"),
    at(f"{CONTACT}/consent", contacts.ContactConsentAPI, "contact_consent"),
    at(f"{CONTACT}/timeline", contact_api.TimelineAPI, "contact_timeline"),
    at("tags", contacts.TagsAPI, "tags"),
    at("tags/(?P<tag>[^/]+)", contact_api.TagAPI, "tag"),
    at("templates", templates.TemplatesAPI, "templates"),
    at("templates/sync", templates.TemplateSyncAPI, "template_sync"),
    at("templates/(?P<template>[^/]+)", templates.TemplateAPI, "template"),
    at("broadcasts", broadcasts.BroadcastsAPI, "broadcasts"),
    at(BROADCAST, broadcasts.BroadcastAPI, "broadcast"),
    at(f"{BROADCAST}/preview", broadcasts.PreviewAPI, "broadcast_preview"),
    at(f"{BROADCAST}/duplicate", broadcasts.CopyAPI, "broadcast_duplicate"),
    at(f"{BROADCAST}/test", broadcasts.TrialAPI, "broadcast_test"),
    at(f"{BROADCAST}/send", broadcasts.SendAPI, "broadcast_send"),
    at(f"{BROADCAST}/schedule", broadcasts.ScheduleAPI, "broadcast_schedule"),
    at(f"{BROADCAST}/unschedule", broadcasts.UnscheduleAPI, "broadcast_unschedule"),
    at(f"{BROADCAST}/pause", broadcasts.PauseAPI, "broadcast_pause"),
    at(f"{BROADCAST}/resume", broadcasts.ResumeAPI, "broadcast_resume"),
    at(f"{BROADCAST}/cancel", broadcasts.CancelAPI, "broadcast_cancel"),
    at(f"{BROADCAST}/stats", broadcasts.StatsAPI, "broadcast_stats"),
    at(f"{BROADCAST}/recipients", broadcasts.RecipientsAPI, "broadcast_recipients"),
    at(f"{BROADCAST}/recipients.csv", broadcasts.RecipientsTableAPI, "broadcast_recipients_table"),
    at("messages", message_api.MessagesAPI, "messages"),
    at("messages/(?P<message>[^/]+)", message_api.MessageAPI, "message"),
    at("sequences", sequences.SequencesAPI, "sequences"),
    at("sequences/enroll", EnrollAPI, "enroll"),
    at(SEQUENCE, sequences.SequenceAPI, "sequence"),
    at(f"{SEQUENCE}/activate", sequences.SequenceActivateAPI, "sequence_activate"),
    at(f"{SEQUENCE}/publish", sequences.SequencePublishAPI, "sequence_publish"),
    at(f"{SEQUENCE}/pause", sequences.SequencePauseAPI, "sequence_pause"),
    at(f"{SEQUENCE}/resume", sequences.SequenceResumeAPI, "sequence_resume"),
    at(f"{SEQUENCE}/archive", sequences.SequenceArchiveAPI, "sequence_archive"),
    at(f"{SEQUENCE}/move", sequences.SequenceMoveAPI, "sequence_move"),
    at(f"{SEQUENCE}/stats", sequences.SequenceStatsAPI, "sequence_stats"),
    at(f"{SEQUENCE}/revisions", sequences.RevisionsAPI, "sequence_revisions"),
    at(f"{SEQUENCE}/revisions/(?P<number>[^/]+)", sequences.RevisionAPI, "sequence_revision"),
    at("enrollments", enrollments.EnrollmentsAPI, "enrollments"),
    at(ENROLLMENT, enrollments.EnrollmentAPI, "enrollment"),
    at(f"{ENROLLMENT}/pause", enrollments.EnrollmentPauseAPI, "enrollment_pause"),
    at(f"{ENROLLMENT}/resume", enrollments.EnrollmentResumeAPI, "enrollment_resume"),
    at(f"{ENROLLMENT}/cancel", enrollments.EnrollmentCancelAPI, "enrollment_cancel"),
    at("webhooks", webhooks.EndpointsAPI, "webhooks"),
    at(WEBHOOK, webhooks.EndpointAPI, "webhook"),
    at(f"{WEBHOOK}/rotate-secret", webhooks.EndpointSecretAPI, "webhook_secret"),
    at(f"{WEBHOOK}/enable", webhooks.EndpointEnableAPI, "webhook_enable"),
    at(f"{WEBHOOK}/test", webhooks.EndpointTestAPI, "webhook_test"),
    at(f"{WEBHOOK}/replay", webhooks.EndpointReplayAPI, "webhook_replay"),
    at("webhook-deliveries", webhooks.DeliveriesAPI, "webhook_deliveries"),
    at(DELIVERY, webhooks.DeliveryAPI, "webhook_delivery"),
    at(f"{DELIVERY}/replay", webhooks.DeliveryReplayAPI, "webhook_delivery_replay"),
    re_path(r"^[\s\S]*$", NothingHereAPI.as_view()),
]


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """400 for what Django refuses before any view, such as a wrong Host; 413 for a form that is too large."""
    if request.path_info.startswith(PREFIX):
        return api_errors.outside(HTTPStatus.BAD_REQUEST)
    if isinstance(exception, request_limits.TOO_MUCH):
        return request_limits.too_much(request)
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """500 for what nobody foresaw."""
    if request.path_info.startswith(PREFIX):
        return api_errors.outside(HTTPStatus.INTERNAL_SERVER_ERROR)
    return defaults.server_error(request)
