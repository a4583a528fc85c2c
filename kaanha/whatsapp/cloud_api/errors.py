"""What Meta's errors mean for the message that met them: one table for answers and callbacks alike.

Source of the codes: Cloud API, "Error codes"; Graph API, "Handling errors". The classes and words are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from kaanha.whatsapp.cloud_api.text import clean

TEXT_LIMIT = 500
UNSEEN_OBJECT = 33  # the subcode of 100 for an id that doesn't exist or that the token may not see
PERMISSIONS = range(200, 300)  # "API permission"
LARGEST_CODE = 2**31 - 1  # what an integer column holds; Meta's have at most seven digits


class ErrorClass(StrEnum):
    """What the sender does about an error."""

    TRANSIENT = "transient"  # trouble at Meta: the same request again, later
    THROUGHPUT = "throughput"  # the same, and slow the number; not a try
    PAIR_RATE = "pair_rate"  # too much to this one person: later, the others go on
    MARKETING_LIMIT = "marketing_limit"  # Meta withholds marketing from this person; keeps the cap
    RECIPIENT = "recipient"  # never for this recipient
    COUNTRY = "country"  # nobody in the recipient's country
    OPT_OUT = "opt_out"  # the person stopped marketing from this business at Meta
    TEMPLATE = "template"  # everything with this template fails: hold
    ACCOUNT = "account"  # everything of this number or account fails: hold
    OURS = "ours"  # our request is wrong for this one message
    UNKNOWN = "unknown"  # a code of tomorrow: final for this message


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means. `follow_up_after`: how much later trying this person anew is worth it; None is never."""

    error_class: ErrorClass
    code: int | None
    text: str  # Meta's own, at most 500 characters
    words: str  # what happened and what to do
    follow_up_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Meaning:
    error_class: ErrorClass
    words: str
    follow_up_after: timedelta | None = None


_AT_ONCE = timedelta(0)  # as soon as what the words ask for is done
_SOON = timedelta(minutes=10)
_TOMORROW = timedelta(hours=24)
_72_HOURS = timedelta(hours=72)
# Said in the answer, it is retried; said in a callback, the message has ended.
_LATER = "A refusal is tried again by itself; reported after acceptance it is final, and worth a follow-up."
_TOKEN = "Make a new access token at Meta and connect the account again."  # noqa: S105 — a sentence, not a secret
_PERMISSION = (
    "The access token may not do this. Give its system user whatsapp_business_messaging and "
    "whatsapp_business_management for this account at Meta, then connect the account again."
)
_REPORT = "The request was wrong for this message; look at Meta's text."


def _transient(words: str) -> Meaning:
    return Meaning(ErrorClass.TRANSIENT, f"{words} {_LATER}", _SOON)


def _throughput(words: str) -> Meaning:
    return Meaning(ErrorClass.THROUGHPUT, f"{words} Kaanha slows down and tries again by itself.", _SOON)


def _recipient(words: str, *, follow_up_after: timedelta | None = None) -> Meaning:
    return Meaning(ErrorClass.RECIPIENT, words, follow_up_after)


def _account(words: str, *, follow_up_after: timedelta | None = _AT_ONCE) -> Meaning:
    return Meaning(ErrorClass.ACCOUNT, words, follow_up_after)


def _template(words: str) -> Meaning:
    return Meaning(ErrorClass.TEMPLATE, words, _AT_ONCE)


def _ours(words: str = _REPORT, *, follow_up_after: timedelta | None = None) -> Meaning:
    return Meaning(ErrorClass.OURS, words, follow_up_after)


MEANINGS: dict[int, Meaning] = {
    0: _account(f"Meta doesn't accept the access token. {_TOKEN}"),
    1: _transient("Meta had an unknown problem, or didn't understand the request."),
    2: _transient("Meta's platform is down for a moment."),
    3: _account(f"The Meta app lacks a capability. {_PERMISSION}"),
    4: _throughput("The Meta app has made too many calls."),
    10: _account(_PERMISSION),
    33: _account("The phone number is gone, or this token can't see it. Check it at Meta and connect it again."),
    100: _ours("Meta found a parameter of the request invalid; its text says which."),
    104: _account(f"Meta saw no valid access token. {_TOKEN}"),
    190: _account(f"The access token is invalid or has expired. {_TOKEN}"),
    368: _account("Meta has blocked the account for a policy violation. Appeal on its account quality page."),
    613: _throughput("Too many calls to this interface."),
    80007: _throughput("The WhatsApp account has reached its limit of calls in an hour."),
    130403: _recipient("This business has blocked the person. Unblock them before writing again."),
    130429: _throughput("The phone number has reached its messages per second."),
    130472: Meaning(
        ErrorClass.MARKETING_LIMIT,
        "Meta withholds marketing from this person for an experiment of its own. Reach them another way.",
    ),
    130497: Meaning(
        ErrorClass.COUNTRY, "Meta doesn't let this business write to people in this country. Leave the country out."
    ),
    130501: _ours("Groups don't take this type of message."),
    131000: _transient("Meta couldn't send the message and doesn't say why."),
    131005: _account(_PERMISSION),
    131008: _ours("A required parameter is missing; Meta's text says which."),
    131009: _ours("A value of the request isn't valid, perhaps the phone number; Meta's text says which."),
    131016: _transient("A service at Meta is down for a moment."),
    131021: _recipient("The recipient is the sending number itself."),
    131026: _recipient(
        "Meta can't deliver to this person: not on WhatsApp, an app too old, or terms not accepted. Try once more "
        "tomorrow at the earliest, or reach them another way.",
        follow_up_after=_TOMORROW,
    ),
    131030: _recipient("A test number writes only to the recipients listed for it at Meta. Add this one there."),
    131031: _account("Meta has locked the account. Appeal on its account quality page."),
    131037: _account("Meta hasn't approved the number's display name. Have it approved before sending."),
    131042: _account("There is a payment problem: nothing will be sent. Set up billing for the account at Meta."),
    131045: _account("The phone number isn't registered correctly. Register it again at Meta."),
    131047: _ours("More than 24 hours have passed since the person last wrote: only a template may be sent."),
    131048: _account(
        "Meta limits this number for its quality, or the messaging limit is reached. Wait a day, and look at the "
        "number's quality and limit at Meta.",
        follow_up_after=_TOMORROW,
    ),
    131049: Meaning(
        ErrorClass.MARKETING_LIMIT,
        "Meta limits how much marketing one person gets from all businesses; trying earlier than 24 hours later makes "
        "it worse. Numbers in the United States get no marketing at all.",
        _TOMORROW,
    ),
    131050: Meaning(
        ErrorClass.OPT_OUT, "The person has stopped marketing from this business. Only they can turn it on again."
    ),
    131051: _ours("Meta doesn't know this type of message."),
    131052: _ours("The file that the person sent can't be fetched."),
    131053: _ours(
        "Meta couldn't fetch or use the header's file. Check that the link answers, with the right type and size, or "
        "upload the file and use its id.",
        follow_up_after=_AT_ONCE,
    ),
    131055: _ours("Only marketing templates go through Meta's marketing address."),
    131056: Meaning(
        ErrorClass.PAIR_RATE, f"Too many messages from this number to this person in a short time. {_LATER}", _SOON
    ),
    131057: _throughput("Meta is upgrading the phone number, which takes a minute."),
    131062: _recipient("This kind of message needs a phone number, and the person is known only by their user id."),
    131063: _template("Meta has turned marketing off for this account's ordinary address. Turn it on at Meta."),
    131064: _account(
        "Meta limits the account for templates in the wrong category; it ends by itself, see Meta's notice."
    ),
    132000: _template("The template has another number of variables. Sync the templates and map them again."),
    132001: _template("Meta has no approved template of this name and language. Sync the templates."),
    132005: _ours("With this contact's values the text is too long. Shorten the values.", follow_up_after=_AT_ONCE),
    132007: _template("The template's text breaks Meta's rules on characters. Change it at Meta."),
    132008: _ours("A value doesn't fit its variable; Meta's text says which."),
    132012: _template("A variable has another format in the template. Sync the templates and map it again."),
    132015: _template("Meta has paused the template. Wait until it is approved again, or choose another."),
    132016: _template("Meta has disabled the template for good. Choose another."),
    132018: _ours("A value breaks Meta's rules for variables, or the template has changed; Meta's text says which."),
    132068: _template("The template's flow is blocked. Repair the flow at Meta."),
    132069: _template("Meta slows the template's flow to ten messages an hour. Repair the flow at Meta."),
    133000: _account("An earlier removal of the phone number isn't finished. Register it again at Meta."),
    133004: _transient("Meta's server is down for a moment."),
    133005: _account("The number's PIN is wrong. Set it at Meta."),
    133006: _account("The phone number has to be verified again at Meta."),
    133008: _account("The PIN was guessed wrong too often. Wait as long as Meta's text says."),
    133009: _account("The PIN was tried too quickly. Wait as long as Meta's text says."),
    133010: _account("The phone number isn't registered. Register it at Meta."),
    133015: _transient("The phone number was removed a moment ago; Meta needs five minutes."),
    133016: _account(
        "The number was registered too often. Meta allows it again after 72 hours.", follow_up_after=_72_HOURS
    ),
    134011: _account("WhatsApp's payment terms aren't accepted. Accept them at Meta."),
    134100: _template("Only marketing templates go through Meta's marketing address."),
    134101: _template("Meta is still preparing the template. Wait ten minutes and resume."),
    134102: _template("Meta can't use the template at the moment. Wait ten minutes and resume."),
    135000: _ours(
        "Meta refuses the request without saying why. Many at once: Meta holds a large campaign back.",
        follow_up_after=_TOMORROW,
    ),
    137000: _recipient("The person's identity key has changed: somebody else may have the number now."),
} | dict.fromkeys((*range(139000, 139005), *range(139100, 139104)), _ours())  # flows; lists of blocked people

_PERMISSION_MEANING = _account(_PERMISSION)
_UNSEEN_MEANING = _account(
    "Meta says that the phone number, account or template doesn't exist or that this token may not see it. Check "
    "the id and the token's permissions, then connect the account again."
)
_UNKNOWN_MEANING = Meaning(ErrorClass.UNKNOWN, "Meta gives a reason that Kaanha doesn't know; look at Meta's text.")
_NO_REASON = Meaning(ErrorClass.UNKNOWN, "Meta says that the message failed and gives no reason.", _TOMORROW)
# What an HTTP status adds where the code says nothing.
_BY_STATUS = {
    401: _account(f"Meta doesn't accept the access token. {_TOKEN}"),
    429: _throughput("Meta is being asked too fast."),
}
_META_TROUBLE = _transient("Meta has trouble of its own.")


def classify(error: Mapping[str, Any], *, http_status: int | None = None) -> Verdict:
    """Decide what an error means for the message that met it.

    `error` is the "error" object of an answer or a member of a callback's "errors", and may be malformed in any way.
    The code decides. Where it is unknown, HTTP 5xx or `is_transient` make it TRANSIENT, 401 ACCOUNT and 429
    THROUGHPUT; else it is UNKNOWN, which is final for the message: a new code must not be retried blindly.
    """
    error = error if isinstance(error, Mapping) else {}
    code = _integer(error.get("code"))
    meaning = _meaning(code, _integer(error.get("error_subcode"))) or _guess(error, code, http_status)
    return Verdict(meaning.error_class, code, _text(error), meaning.words, meaning.follow_up_after)


def known(code: Any) -> bool:
    """Whether the code is one of Meta's that the table explains."""
    number = _integer(code)
    return number is not None and (number in MEANINGS or number in PERMISSIONS)


def _meaning(code: int | None, subcode: int | None) -> Meaning | None:
    if code is None:
        return None
    if code == 100 and subcode == UNSEEN_OBJECT:
        return _UNSEEN_MEANING
    return MEANINGS.get(code) or (_PERMISSION_MEANING if code in PERMISSIONS else None)


def _guess(error: Mapping[str, Any], code: int | None, http_status: int | None) -> Meaning:
    if http_status in _BY_STATUS:
        return _BY_STATUS[http_status]
    if error.get("is_transient") is True or (http_status is not None and http_status >= 500):
        return _META_TROUBLE
    return _NO_REASON if code is None else _UNKNOWN_MEANING


def _integer(value: Any) -> int | None:
    """A code as Meta means it: usually a number, sometimes the same as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        number = int(value)
    except ValueError:
        return None
    return number if abs(number) <= LARGEST_CODE else None


def _text(error: Mapping[str, Any]) -> str:
    """Meta's title and what it adds to it. `error_data` is an object, a bare text, or missing."""
    extra = error.get("error_data")
    details = extra.get("details") if isinstance(extra, Mapping) else extra
    title = _first(error.get("title"), error.get("error_user_title"), error.get("message"))
    details = _first(details, error.get("error_user_msg"), error.get("message"))
    if not title or not details or details == title:
        return clean(title or details, TEXT_LIMIT)
    return clean(f"{title.rstrip('.')}: {details}", TEXT_LIMIT)


def _first(*candidates: Any) -> str:
    return next((text for text in candidates if isinstance(text, str) and text), "")
