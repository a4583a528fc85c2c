"""A sample organization on the simulated WhatsApp, so that `make run` shows something to try."""

from __future__ import annotations

import json
from collections.abc import Mapping

import requests

from kaanha.lib.errors import Refusal
from kaanha.processes import manage

SLUG = "sample-store"
# Who the simulated WhatsApp is, unless told otherwise.
BUSINESS = (
    *("--waba-id", "300000000000001", "--app-id", "400000000000001"),
    *("--app-secret", "sim_app_secret_0001", "--access-token", "sim-access-token"),
)


def make(environment: Mapping[str, str]) -> None:
    """Create the organization, connect it and import its templates. The simulated WhatsApp must be running."""
    manage("create_organization", "Sample Store", "--slug", SLUG, "--timezone", "Asia/Kolkata", environment=environment)
    manage("connect_whatsapp", SLUG, *BUSINESS, environment=environment)
    manage("sync_templates", SLUG, environment=environment)


def subscribe(simulator: str, environment: Mapping[str, str]) -> None:
    """Tell the simulated WhatsApp at `simulator` where our callbacks go: it forgets when it ends."""
    connected = json.loads(manage("connect_whatsapp", SLUG, *BUSINESS, "--json", environment=environment))
    enter_callback(simulator, connected["callbackUrl"], connected["verifyToken"])


def enter_callback(simulator: str, callback_url: str, verify_token: str) -> None:
    """What one does at Meta by hand: enter the callback's address and the verify token."""
    body = {"callbackUrl": callback_url, "verifyToken": verify_token}
    answer = requests.post(f"{simulator}/simulator/subscription", json=body, timeout=30)
    if not answer.ok:
        raise Refusal(f"The simulated WhatsApp refused the callback address: {answer.json().get('error')}")
