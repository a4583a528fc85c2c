"""Asking Meta on behalf of a person: what goes wrong is said in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings

from kaanha.lib.errors import Refusal
from kaanha.whatsapp.cloud_api.graph import NO_END, ForeignAnswer, Graph, GraphError, Unreachable

UNAUTHORIZED = 401
INVALID_TOKEN = (0, 104, 190)


def graph(access_token: str, *, at_most: timedelta = NO_END) -> Graph:
    """Meta at the address in the settings, with this token; all calls together take so long at most."""
    return Graph(settings.WHATSAPP_API_URL, access_token, timeout=settings.WHATSAPP_TIMEOUT, at_most=at_most)


@contextmanager
def asking(subject: str) -> Iterator[None]:
    """Turn every failure of a call into a Refusal. `subject` is what was asked for, as in "WhatsApp account 300…"."""
    try:
        yield
    except GraphError as error:
        raise _refusal(subject, error) from error
    except ForeignAnswer as error:
        if error.status == UNAUTHORIZED:
            raise _token_refused(str(error)) from error
        raise Refusal(
            f"{subject}: {settings.WHATSAPP_API_URL} doesn't answer as Meta does ({error}). Check WHATSAPP_API_URL.",
            code="not_meta",
        ) from error
    except Unreachable as error:
        raise Refusal(
            f"Meta can't be reached at {settings.WHATSAPP_API_URL} ({error}). Check the network and WHATSAPP_API_URL.",
            code="meta_unreachable",
        ) from error


def _refusal(subject: str, error: GraphError) -> Refusal:
    if error.verdict.code in INVALID_TOKEN or error.http_status == UNAUTHORIZED:
        return _token_refused(error.verdict.text)
    return Refusal(f"{subject}: {error}", code="refused_by_meta")


def _token_refused(text: str) -> Refusal:
    return Refusal(
        f"Meta doesn't accept the access token ({text}). Make a new one at Meta for a system user of this account.",
        code="token_invalid",
    )
