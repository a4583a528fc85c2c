"""The simulated side of Meta as one object: account, numbers, people, what was accepted and what becomes of it."""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import aiohttp

from kaanha.simulator import outcomes, payloads
from kaanha.simulator.callbacks import Callbacks
from kaanha.simulator.errors import in_status
from kaanha.simulator.ledger import Ledger, Message, Person
from kaanha.simulator.limits import DAY, Limits
from kaanha.simulator.media import Uploads
from kaanha.simulator.options import Options
from kaanha.simulator.outcomes import Card, Step
from kaanha.simulator.payloads import Event
from kaanha.simulator.phone_numbers import in_united_states, user_id_of
from kaanha.simulator.samples import SAMPLES
from kaanha.simulator.switches import Forced, Switches
from kaanha.simulator.templates import Template, Templates
from kaanha.simulator.validation import Addressee

STOP_WORDS = "STOP"
RECENT = 300  # requests remembered for the page
WINDOW = DAY  # seconds in which free-form messages are allowed after the person wrote


@dataclass(slots=True)
class Phone:
    """One business number. `override`: its own callback URL, which wins over the account's and the app's."""

    id: str
    digits: str
    quality: str = "GREEN"
    status: str = "CONNECTED"
    override: str | None = None

    @property
    def display(self) -> str:
        """The number as Meta formats it."""
        digits = self.digits
        return f"+{digits[0]} {digits[1:4]}-{digits[4:7]}-{digits[7:]}"


@dataclass(slots=True)
class Subscription:
    """Where callbacks go. Without `subscribed` none is sent, whatever URL the app has."""

    url: str | None = None
    override: str | None = None
    verify_token: str | None = None
    subscribed: bool = False


@dataclass(slots=True)
class Request:
    """One line of the recent requests."""

    at: float
    method: str
    path: str
    outcome: str
    to: str = ""


class HandshakeFailed(Exception):
    """The callback URL did not prove itself; the text says what it did instead."""


@dataclass(slots=True)
class World:
    """Everything the endpoints act upon. Build it, then `await start()` in the loop that serves."""

    options: Options
    switches: Switches = field(default_factory=Switches)
    templates: Templates = field(default_factory=Templates)
    limits: Limits = field(default_factory=Limits)
    uploads: Uploads = field(default_factory=Uploads)
    subscription: Subscription = field(default_factory=Subscription)
    recent: deque[Request] = field(default_factory=lambda: deque(maxlen=RECENT))
    phones: dict[str, Phone] = field(init=False)
    ledger: Ledger = field(init=False)
    callbacks: Callbacks = field(init=False)
    rng: Random = field(init=False)
    started_at: float = field(default_factory=time.time)
    _failures: dict[tuple[str, str], int] = field(default_factory=dict)
    _display: itertools.count[int] = field(default_factory=lambda: itertools.count(15555550100))

    def __post_init__(self) -> None:
        self.switches.update(self.options.settings)
        self.rng = Random(self.options.seed)  # noqa: S311  chance, not secrecy
        self.phones = {each: Phone(each, str(next(self._display))) for each in self.options.phone_number_ids}
        self.ledger = Ledger(self.options.log)
        self.callbacks = Callbacks(
            waba_id=self.options.waba_id, app_secret=self.options.app_secret, switches=self.switches, rng=self.rng
        )
        self._stock_templates()

    def _stock_templates(self) -> None:
        self.templates = Templates()
        for template in (*SAMPLES, *self.options.templates):
            self.templates.add(template)

    async def start(self) -> None:
        """Begin to tell callbacks, to the URL of the options or of the log if there is one. Raises HandshakeFailed.

        What the log holds and the callback URL has not taken yet is told now: Meta forgets nothing over a restart.
        """
        await self.callbacks.start()
        self.callbacks.on_taken = self._note_taken
        if self.options.callback_url:
            await self.subscribe(self.options.callback_url, self.options.verify_token or "")
        elif self.ledger.subscription:
            self.subscription = Subscription(**self.ledger.subscription)
        for message in self.ledger.messages:
            if message.phone_number_id in self.phones:
                self.follow(message, phone=self.phones[message.phone_number_id])

    def _note_taken(self, events: list[Event]) -> None:
        self.ledger.note_told([event.item for event in events if event.kind == "statuses"])

    async def stop(self) -> None:
        await self.callbacks.stop()
        self.ledger.close()

    def reset(self) -> None:
        """Begin anew: nothing accepted, the sample templates, the switches as at the start. The subscription stays."""
        self.callbacks.clear()
        self.ledger.clear()
        self.recent.clear()
        self._failures.clear()
        self.limits = Limits()
        self.uploads = Uploads()
        self._stock_templates()
        fresh = Switches()
        fresh.update(self.options.settings)
        for name in Switches.__slots__:
            setattr(self.switches, name, getattr(fresh, name))

    # Subscription

    async def subscribe(self, url: str, verify_token: str) -> None:
        """Make `url` the app's callback URL and subscribe the app to the account. Raises HandshakeFailed."""
        await handshake(url, verify_token)
        self.change_subscription(Subscription(url=url, verify_token=verify_token, subscribed=True))

    def change_subscription(self, subscription: Subscription) -> None:
        """Send callbacks there from now on, also after a restart with the same log."""
        self.subscription = subscription
        self.ledger.note_subscription(asdict(subscription))

    def destination(self, phone: Phone | None) -> str | None:
        """Where events of this number (None: of the account) go; number before account before app."""
        if not self.subscription.subscribed:
            return None
        own = phone.override if phone else None
        return own or self.subscription.override or self.subscription.url

    def tell(
        self,
        name: str,
        kind: str | None,
        item: dict[str, Any],
        *,
        phone: Phone | None = None,
        contacts: tuple[dict[str, Any], ...] = (),
    ) -> None:
        """Tell the subscriber of one thing. `kind`: the list it stands in, None where it is the whole value."""
        destination = self.destination(phone)
        if destination is None:
            self.callbacks.counts.unsubscribed += 1
            return
        if self.switches.oddities and self.rng.random() < self.switches.oddities:
            item = item | {"sample_undocumented_field": {"note": "é / ü", "value": None}}
        where = (phone.digits, phone.id) if phone else None
        at = int(time.time()) if kind is None else None
        self.callbacks.tell(Event(destination, name, kind, item, where, contacts, at))

    def tell_soon(self, name: str, value: dict[str, Any]) -> None:
        """Tell of a change of account or template."""
        self.callbacks.schedule(0, self.tell, name, None, value)

    # Outcomes

    def card(self, addressee: Addressee) -> Card | None:
        """The test card of this addressee, unless cards are switched off."""
        return outcomes.card_of(addressee.wa_id) if self.switches.cards else None

    def fault_due(self, card: Card | None, phone: Phone, wa_id: str) -> bool:
        """Whether the card spoils this answer. Counts per message: after it has worked the next one fails anew."""
        if card is None or card.fault is None:
            return False
        if card.times is None:
            return True
        seen = self._failures.get((phone.id, wa_id), 0)
        if seen >= card.times:
            self._failures.pop((phone.id, wa_id), None)
            return False
        self._failures[phone.id, wa_id] = seen + 1
        return True

    def forced(self, *, on: str, to: str = "", template: str | None = None) -> Forced | None:
        """The forced fault that meets this request, if any; it is used up by one."""
        for forced in self.switches.force:
            if forced.over or forced.on not in (on, "all"):
                continue
            if not to.endswith(forced.to) or (forced.template and forced.template != template):
                continue
            if forced.share < 1 and self.rng.random() >= forced.share:
                continue
            if forced.count is not None:
                forced.count -= 1
            return forced
        return None

    def accept(
        self,
        phone: Phone,
        addressee: Addressee,
        template: Template | None,
        opaque: str | None,
        raw: bytes,
        *,
        lite: bool,
    ) -> Message:
        """Take in a message. What becomes of it is decided by `follow`."""
        card = self.card(addressee)
        category = template.category.lower() if template else "service"
        message = Message(
            number=len(self.ledger.messages) + 1,
            wamid=payloads.new_wamid(addressee.wa_id),
            to=addressee.digits,
            wa_id=addressee.wa_id,
            phone_number_id=phone.id,
            template=template.name if template else None,
            language=template.language if template else None,
            category="marketing_lite" if lite else category,
            opaque=opaque,
            raw=raw,
            accepted_at=time.time(),
            card=card.ending if card else None,
            by_user_id=addressee.by_user_id,
        )
        self.ledger.add(message)
        return message

    def follow(self, message: Message, *, phone: Phone, failing: int | None = None, early: bool = False) -> None:
        """Schedule everything that will become of a message. `failing`: a code that it will fail with in any case."""
        card = outcomes.CARDS.get(message.card or "")
        code = failing or self._refusal(message, card)
        steps = self._to_come(message, outcomes.failing(code) if code else self._plan(message, card))
        offsets = self._offsets(steps)
        moments = list(offsets)
        if self.switches.reorder and self.rng.random() < self.switches.reorder:
            self.rng.shuffle(moments)
        for step, offset, moment in zip(steps, offsets, moments, strict=True):
            happened = time.time() + offset / self.switches.speed
            self.callbacks.schedule(
                0 if early and step.kind == "sent" else moment, self._step, message, phone, step, happened
            )
        if card and card.reply and steps and not code:
            delay = self.rng.uniform(*self.switches.delays["reply"])
            self.callbacks.schedule(sum(offsets[-1:]) + delay, self._react, message, phone, card.reply)

    def _to_come(self, message: Message, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """The steps that have not been told before a restart."""
        if not message.statuses:
            return steps
        told = {status for status, *_ in message.statuses}
        return tuple(step for step in steps if step.kind not in told)

    def _offsets(self, steps: tuple[Step, ...]) -> list[float]:
        spans = (self.rng.uniform(*self.switches.delays[step.delay]) * step.share for step in steps)
        return list(itertools.accumulate(spans))

    def _plan(self, message: Message, card: Card | None) -> tuple[Step, ...]:
        if card:
            return outcomes.PLANS[card.plan]
        return outcomes.PLANS[outcomes.profile_of(message.wa_id, seed=self.options.seed, weights=self.switches.profile)]

    def _refusal(self, message: Message, card: Card | None) -> int | None:
        """The code that Meta drops this message with after accepting it, if it does."""
        person = self.ledger.person(message.wa_id)
        window_open = person.window_until > message.accepted_at
        if message.template is None:
            return None if window_open else 131047
        if not window_open and not self.limits.admits_person(
            message.wa_id, per_day=self.switches.messaging_limit, now=message.accepted_at
        ):
            return 131048
        if not message.category.startswith("marketing"):
            return None
        if card and card.marketing and not (card.code == 131050 and person.preference == "resume"):
            return None if card.code == 131049 and window_open else card.code
        if person.preference == "stop":
            return 131050
        return 131049 if self._american(message) else None

    def _american(self, message: Message) -> bool:
        return not self.switches.marketing_to_united_states and in_united_states(message.wa_id)

    def _step(self, message: Message, phone: Phone, step: Step, happened: float) -> None:
        self.ledger.statuses[step.kind] += 1
        message.statuses.append((step.kind, int(happened), step.code))
        status = self._status(message, step, int(happened))
        contact = self._contact(message.wa_id, numbered=not message.by_user_id)
        self.tell("messages", "statuses", status, phone=phone, contacts=(contact,))

    def _status(self, message: Message, step: Step, timestamp: int) -> dict[str, Any]:
        status: dict[str, Any] = {
            "id": message.wamid,
            "status": step.kind,
            "timestamp": str(timestamp),
            "recipient_id": message.wa_id,
            "recipient_user_id": user_id_of(message.wa_id),
        }
        if message.by_user_id:
            del status["recipient_id"]
        if message.opaque is not None:
            status["biz_opaque_callback_data"] = message.opaque
        if step.code is not None and self.rng.random() >= self.switches.missing_errors:
            status["errors"] = [in_status(step.code)]
        if self._priced(message, step):
            status["pricing"] = payloads.pricing(message.category, window_open=message.template is None)
        if self.switches.callback_version <= 23 and step.kind in ("sent", "delivered", "read"):
            status["conversation"] = self._conversation(message, step)
        return status

    def _priced(self, message: Message, step: Step) -> bool:
        """`pricing` stands on sent and on the first of delivered and read."""
        arrived = [status for status, *_ in message.statuses if status in ("delivered", "read")]
        return step.kind == "sent" or (step.kind in ("delivered", "read") and len(arrived) == 1)

    def _conversation(self, message: Message, step: Step) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": hashlib.sha256(message.wamid.encode()).hexdigest()[:32],
            "origin": {"type": message.category},
        }
        if step.kind == "sent":
            found["expiration_timestamp"] = str(int(message.accepted_at + DAY))
        return found

    def _contact(self, wa_id: str, *, numbered: bool = True) -> dict[str, Any]:
        return payloads.contact(wa_id, self.ledger.person(wa_id).name, numbered=numbered)

    # People

    def _react(self, message: Message, phone: Phone, reply: str) -> None:
        """What a person with a replying card does after reading."""
        quote = message.wamid
        button = self._first_quick_reply(message) if reply == "button" else None
        match reply:
            case "stop":
                self.write(message.wa_id, phone, {"type": "text", "text": {"body": STOP_WORDS}})
            case "text":
                self.write(message.wa_id, phone, {"type": "text", "text": {"body": "Are you open on Sunday? 😊"}})
            case "preference":
                self.prefer(message.wa_id, "stop", phone=phone)
            case "button" if button:
                self.write(message.wa_id, phone, {"type": "button", "button": button}, quote=quote)
            case _:
                self.write(
                    message.wa_id, phone, {"type": "text", "text": {"body": "Thank you, see you soon!"}}, quote=quote
                )

    def _first_quick_reply(self, message: Message) -> dict[str, str] | None:
        template = self.templates.find(message.template or "", message.language or "")
        if template is None:
            return None
        for index, button in enumerate(template.shape.buttons):
            if button.kind == "QUICK_REPLY":
                return {"payload": _payload_sent(message, index) or button.text, "text": button.text}
        return None

    def write(
        self,
        wa_id: str,
        phone: Phone,
        content: Mapping[str, Any],
        *,
        quote: str | None = None,
        name: str | None = None,
        numbered: bool = True,
    ) -> str:
        """Have a person write to a number; answers the wamid. A message opens the window for 24 hours.

        Without `numbered` the person has a username, and shows no number to those who don't have it.
        """
        person = self.ledger.person(wa_id)
        person.name = name or person.name
        person.written += 1
        wamid = payloads.new_wamid(wa_id, inbound=True)
        item: dict[str, Any] = {
            "from": wa_id,
            "from_user_id": user_id_of(wa_id),
            "id": wamid,
            "timestamp": str(int(time.time())),
        }
        if quote:
            item["context"] = {"from": phone.digits, "id": quote}
        item |= content
        if item.get("type") != "reaction":
            person.window_until = time.time() + WINDOW
        if not numbered:
            del item["from"]
        contact = self._contact(wa_id, numbered=numbered)
        self.tell("messages", "messages", item, phone=phone, contacts=(contact,))
        return str(item["id"])

    def prefer(self, wa_id: str, value: str, *, phone: Phone | None = None) -> None:
        """Have a person turn WhatsApp's own switch for our marketing: stop or resume."""
        person: Person = self.ledger.person(wa_id)
        person.preference = value
        words = "stop" if value == "stop" else "resume"
        preference = {
            "wa_id": wa_id,
            "user_id": user_id_of(wa_id),
            "detail": f"User requested to {words} marketing messages",
            "category": "marketing_messages",
            "value": value,
            "timestamp": int(time.time()),
        }
        phone = phone or next(iter(self.phones.values()))
        contacts = ({"wa_id": wa_id, "user_id": user_id_of(wa_id)},)
        self.tell("user_preferences", "user_preferences", preference, phone=phone, contacts=contacts)


def _payload_sent(message: Message, index: int) -> str | None:
    """The payload that a message gave to its quick reply at `index`."""
    for part in message.payload["template"].get("components") or ():
        if part["type"].lower() == "button" and str(part.get("index")) == str(index) and part.get("parameters"):
            return str(part["parameters"][0].get("payload", "")) or None
    return None


async def handshake(url: str, verify_token: str) -> None:
    """Ask the callback URL to prove itself. Raises HandshakeFailed with a sentence."""
    challenge = str(secrets.randbelow(9_000_000_000) + 1_000_000_000)
    query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": verify_token}
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, params=query, allow_redirects=False) as answer,
        ):
            status, body = answer.status, await answer.text(errors="replace")
    except TimeoutError as error:
        raise HandshakeFailed(f"The callback URL {url} did not answer within 10 seconds.") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise HandshakeFailed(f"The callback URL {url} could not be reached: {error}.") from error
    if status != 200:
        hint = " The verify token may differ." if status == 403 else ""
        raise HandshakeFailed(f"The callback URL {url} answered the handshake with HTTP {status} instead of 200.{hint}")
    if body != challenge:
        shown = json.dumps(body[:60])
        raise HandshakeFailed(f"The callback URL {url} answered {shown} instead of the bare challenge.")
