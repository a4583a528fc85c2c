"""Looking whether a connection with Meta works: one question after the other, each answered in a sentence."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.utils.timezone import localtime

from kaanha.lib.errors import Refusal
from kaanha.whatsapp.asking import asking, graph
from kaanha.whatsapp.cloud_api.graph import Graph
from kaanha.whatsapp.models import BusinessAccount

AT_MOST = timedelta(seconds=20)  # for all questions: somebody waits
AWAY = ("meta_unreachable", "not_meta")  # then nothing is known of what was asked about
NEEDED = ("whatsapp_business_management", "whatsapp_business_messaging")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was looked at, whether it is as it should be, and what is wrong and what to do, or what was found."""

    title: str
    ok: bool
    sentence: str


def check(account: BusinessAccount) -> list[Answer]:
    """Ask Meta about the account. Ends with the first answer that makes the others pointless. Changes nothing."""
    meta = graph(account.access_token, at_most=AT_MOST)
    found: list[Answer] = []
    for title, ask in QUESTIONS:
        found.append(_answer(title, ask, meta, account))
        if not found[-1].ok and (title in FIRST or found[-1].title != title):
            break
    return [*found, callbacks(account)]


def callbacks(account: BusinessAccount) -> Answer:
    """Whether Meta posts to us. Callbacks are kept for seven days."""
    last = account.app.callbacks.order_by("-pk").values_list("received_at", flat=True).first()
    if last is not None:
        return Answer("Callbacks", True, f"The last one of the app came on {localtime(last):%-d %b %Y, %H:%M %Z}.")
    words = (
        "None has come in the last seven days. Enter the callback URL and the verify token at Meta, subscribe to the "
        "field “messages”, and check that Meta can reach the address from outside."
    )
    return Answer("Callbacks", False, words)


def _answer(title: str, ask: Callable[[Graph, BusinessAccount], str], meta: Graph, account: BusinessAccount) -> Answer:
    try:
        with asking(f"WhatsApp account {account.waba_id}"):
            return Answer(title, True, ask(meta, account))
    except Refusal as refusal:
        return Answer("Meta" if refusal.code in AWAY else title, False, str(refusal))


def _token(meta: Graph, account: BusinessAccount) -> str:
    said = meta.token(account.access_token)
    if not said.get("is_valid"):
        raise Refusal("Meta says that the access token isn't valid. Make a new one, and save it here.")
    if str(said.get("app_id")) != account.app.app_id:
        raise Refusal(
            f"The token belongs to app {said.get('app_id')}, not to {account.app.app_id}: callbacks would come with "
            "another secret. Make one in the right app."
        )
    missing = [scope for scope in NEEDED if scope not in (said.get("scopes") or [])]
    if missing:
        raise Refusal(f"The token lacks the permission {' and '.join(missing)}. Make one that has it.")
    return "Meta accepts it, and it has both permissions."


def _account(meta: Graph, account: BusinessAccount) -> str:
    proof = hmac.new(account.app.secret.encode(), account.access_token.encode(), hashlib.sha256).hexdigest()
    name = meta.proven_account(account.waba_id, proof).get("name")
    return f"The token sees {name or account.waba_id}; Meta found no fault with the app secret."


def _numbers(meta: Graph, account: BusinessAccount) -> str:
    theirs = {str(number.get("id")): number for number in meta.phone_numbers(account.waba_id)}
    ours = list(account.numbers.usable().order_by("pk"))
    if strangers := [str(number) for number in ours if number.phone_number_id not in theirs]:
        raise Refusal(f"Not of this account at Meta: {', '.join(strangers)}. Connect the account again.")
    if not ours:
        raise Refusal("No number of this account is connected. Connect the account again.")
    if down := list(_unable(theirs, [number.phone_number_id for number in ours])):
        raise Refusal(f"Can't send: {', '.join(down)}. Look at the numbers in WhatsApp Manager.")
    return f"{len(ours)} connected, all of this account."


def _unable(theirs: dict[str, dict[str, object]], ids: list[str]) -> Iterator[str]:
    for number in ids:
        status = theirs[number].get("status") or "CONNECTED"
        if status != "CONNECTED":
            yield f"{theirs[number].get('display_phone_number') or number} is {status}"


def _subscription(meta: Graph, account: BusinessAccount) -> str:
    apps = [str(app.get("whatsapp_business_api_data", {}).get("id")) for app in meta.subscribed_apps(account.waba_id)]
    if account.app.app_id not in apps:
        raise Refusal(
            f"App {account.app.app_id} isn't subscribed to this account: no delivery, read or reply is told. "
            "Connect the account again, which subscribes it."
        )
    return "The app is subscribed to the account."


QUESTIONS: tuple[tuple[str, Callable[[Graph, BusinessAccount], str]], ...] = (
    ("Access token", _token),
    ("WhatsApp account and app secret", _account),
    ("Phone numbers", _numbers),
    ("Subscription", _subscription),
)
FIRST = ("Access token", "WhatsApp account and app secret")
