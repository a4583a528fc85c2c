"""/simulator: what it received, its switches, and making people and Meta do things."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from kaanha.simulator import template_endpoints
from kaanha.simulator.creation import CATEGORIES
from kaanha.simulator.outcomes import CARDS
from kaanha.simulator.phone_numbers import digits_of, wa_id_of
from kaanha.simulator.switches import camel
from kaanha.simulator.templates import EVENTFUL, Template
from kaanha.simulator.web import WORLD, Handler
from kaanha.simulator.world import HandshakeFailed, Phone, Subscription, World

PAGE = Path(__file__).with_name("page.html")
LIMIT = 100  # rows of a listing unless `limit` says otherwise
Act = Callable[[World, dict[str, Any]], Awaitable[dict[str, Any]]]


class Refused(Exception):
    """A control request that can't be done; the text says what to do instead."""


def answer(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, dumps=lambda each: json.dumps(each, ensure_ascii=False))


def summary(world: World) -> dict[str, Any]:
    """Counts from which duplicates and losses can be told."""
    counts = {camel(name): value for name, value in asdict(world.callbacks.counts).items()}
    callbacks = counts | {"pending": world.callbacks.pending}
    return world.ledger.summary() | {"callbacks": callbacks, "due": world.callbacks.due}


async def show_page(request: web.Request) -> web.StreamResponse:
    return web.Response(text=PAGE.read_text(encoding="utf-8"), content_type="text/html")


async def to_page(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/simulator")


async def show_summary(request: web.Request) -> web.StreamResponse:
    return answer(summary(request.app[WORLD]))


async def show_health(request: web.Request) -> web.StreamResponse:
    return answer({"ok": True, "upFor": round(time.time() - request.app[WORLD].started_at, 1)})


async def show_identity(request: web.Request) -> web.StreamResponse:
    """Who this simulator is, and the test cards."""
    world = request.app[WORLD]
    cards = [{"ending": card.ending, "title": card.title} for card in CARDS.values()]
    subscription = asdict(world.subscription)
    return answer(
        {
            "appId": world.options.app_id,
            "wabaId": world.options.waba_id,
            "phoneNumbers": [{"id": phone.id, "display": phone.display} for phone in world.phones.values()],
            "accessToken": world.options.access_token,
            "subscription": {camel(name): value for name, value in subscription.items()},
            "cards": cards,
            "templates": [template.as_json(["name", "language", "status", "category"]) for template in world.templates],
        }
    )


async def show_messages(request: web.Request) -> web.StreamResponse:
    """Accepted messages, oldest first; `next` is the `after` of the following page, null at the end."""
    world, query = request.app[WORLD], request.query
    limit, after = _number(query.get("limit"), LIMIT), _number(query.get("after"), 0)
    wa_id = _wa_id(world, query["to"]) if query.get("to") else None
    found = world.ledger.found(wa_id=wa_id, template=query.get("template"), after=after)
    page = list(itertools.islice(found, limit + 1))
    following = page[limit - 1].number if len(page) > limit else None
    shown = []
    for message in page[:limit]:
        template = world.templates.find(message.template or "", message.language or "")
        components = message.payload.get("template", {}).get("components") or ()
        shown.append(message.as_json() | {"text": template.rendered(components) if template else None})
    return answer({"data": shown, "next": following, "total": len(world.ledger.messages)})


async def show_recipients(request: web.Request) -> web.StreamResponse:
    """Counts per person, those most recently sent to first; only of one with `waId`."""
    world, query = request.app[WORLD], request.query
    limit, after = _number(query.get("limit"), LIMIT), _number(query.get("after"), 0)
    people = world.ledger.people
    if "waId" in query:
        people = {person.wa_id: person for person in [people.get(_wa_id(world, query["waId"]))] if person}
    page = itertools.islice(reversed(people.values()), after, after + limit)
    following = after + limit if len(people) > after + limit else None
    return answer({"data": [person.as_json() for person in page], "next": following, "total": len(people)})


async def show_requests(request: web.Request) -> web.StreamResponse:
    """The last requests to Graph, newest first."""
    recent = list(reversed(request.app[WORLD].recent))[: _number(request.query.get("limit"), LIMIT)]
    return answer({"data": [asdict(each) for each in recent]})


async def show_settings(request: web.Request) -> web.StreamResponse:
    return answer(request.app[WORLD].switches.as_json())


async def show_idle(request: web.Request) -> web.StreamResponse:
    """Whether every scheduled event has been told; with `wait` it takes up to so many seconds to become true."""
    callbacks = request.app[WORLD].callbacks
    deadline = time.monotonic() + float(request.query.get("wait", 0))
    while not callbacks.idle and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return answer({"idle": callbacks.idle, "due": callbacks.due, "pending": callbacks.pending})


async def change_settings(world: World, body: dict[str, Any]) -> dict[str, Any]:
    try:
        world.switches.update(body)
    except ValueError as error:
        raise Refused(str(error)) from error
    return world.switches.as_json()


async def subscribe(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Do the handshake with {"callbackUrl", "verifyToken"} and send callbacks there from now on; null ends it."""
    if "callbackUrl" in body and body["callbackUrl"] is None:
        world.change_subscription(Subscription())
        return {"ok": True, "callbackUrl": None}
    if not body.get("callbackUrl"):
        raise Refused("callbackUrl is missing.")
    try:
        await world.subscribe(str(body["callbackUrl"]), str(body.get("verifyToken", "")))
    except HandshakeFailed as error:
        raise Refused(str(error)) from error
    return {"ok": True, "callbackUrl": world.subscription.url}


async def write(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Make a person write: "text", "button" or any "message" object, "quote" a wamid, under a "name".

    "withoutNumber": true has them known by their user id alone.
    """
    wa_id, phone = _wa_id(world, str(body.get("from", ""))), _phone(world, body)
    numbered = not body.get("withoutNumber")
    wamid = world.write(wa_id, phone, _content(body), quote=body.get("quote"), name=body.get("name"), numbered=numbered)
    return {"ok": True, "wamid": wamid}


def _content(body: dict[str, Any]) -> dict[str, Any]:
    message, button = body.get("message"), body.get("button")
    if isinstance(message, dict):
        return message
    if button:
        button = button if isinstance(button, dict) else {"payload": button, "text": button}
        return {"type": "button", "button": button}
    if isinstance(body.get("text"), str):
        return {"type": "text", "text": {"body": body["text"]}}
    raise Refused("Say what the person writes: text, button, or message with a whole message object.")


async def prefer(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Make a person turn WhatsApp's own marketing switch: {"waId", "value": "stop" or "resume"}."""
    if body.get("value") not in ("stop", "resume"):
        raise Refused("value is stop or resume.")
    phone = _phone(world, body)
    world.prefer(_wa_id(world, str(body.get("waId", ""))), body["value"], phone=phone)
    return {"ok": True}


async def change_template(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Change "status", "category", "quality" or "components" of a template, as Meta would, with its callback."""
    template = world.templates.find(str(body.get("name")), str(body.get("language")))
    if template is None:
        raise Refused(f"There is no template {body.get('name')} in {body.get('language')}.")
    if "status" in body and body["status"] not in EVENTFUL:
        raise Refused(f"status is one of {', '.join(EVENTFUL)}.")
    if "category" in body and body["category"] not in CATEGORIES:
        raise Refused(f"category is one of {', '.join(CATEGORIES)}.")
    if "components" in body and not _well_formed(body["components"]):
        raise Refused("components are written as Meta lists them: a list of objects, each with a type.")
    for name, change in _CHANGES.items():
        if name in body:
            world.tell_soon(*change(template, body))
    return template.as_json()


def _well_formed(components: Any) -> bool:
    return isinstance(components, list) and all(isinstance(each, dict) and "type" in each for each in components)


def _subject(template: Template) -> dict[str, Any]:
    return {
        "message_template_id": template.id,
        "message_template_name": template.name,
        "message_template_language": template.language,
    }


def _change_status(template: Template, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    template.pause = body.get("pause", "quality")
    value = template_endpoints.set_status(template, body["status"], reason=body.get("reason", "NONE"))
    return "message_template_status_update", value


def _change_category(template: Template, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    template.previous_category, template.category = template.category, body["category"]
    change = {"previous_category": template.previous_category, "new_category": template.category}
    return "template_category_update", _subject(template) | change


def _change_quality(template: Template, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    change = {"previous_quality_score": template.quality, "new_quality_score": body["quality"]}
    template.quality = body["quality"]
    return "message_template_quality_update", change | _subject(template)


def _change_components(template: Template, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    template.components = body["components"]
    template.reshape()
    return "message_template_components_update", _subject(template) | {
        "message_template_element": template.shape.body_text
    }


# What Meta may change about a template: each answers the callback's field and value.
_CHANGES = {
    "status": _change_status,
    "category": _change_category,
    "quality": _change_quality,
    "components": _change_components,
}


async def tell_event(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Tell anything else: {"field": "account_update", "value": {…}}."""
    if not isinstance(body.get("field"), str) or not isinstance(body.get("value"), dict):
        raise Refused('An event reads like {"field": "account_update", "value": {…}}.')
    world.tell_soon(body["field"], body["value"])
    return {"ok": True}


async def reset(world: World, body: dict[str, Any]) -> dict[str, Any]:
    world.reset()
    return {"ok": True}


def _phone(world: World, body: dict[str, Any]) -> Phone:
    phone_id = str(body.get("phoneNumberId") or next(iter(world.phones)))
    if phone_id not in world.phones:
        raise Refused(f"There is no phone number {phone_id}; there are {', '.join(world.phones)}.")
    return world.phones[phone_id]


def _wa_id(world: World, written: str) -> str:
    digits = digits_of(written)
    if digits is None:
        raise Refused(f"{written!r} is no phone number with its country code.")
    return wa_id_of(digits) if world.switches.wa_id_rewritten else digits


def _number(written: str | None, default: int) -> int:
    return int(written) if written and written.isdigit() else default


def _showing(show: Handler) -> Handler:
    """An endpoint around a listing: a refusal as {"error": sentence} with 400."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        try:
            return await show(request)
        except Refused as refusal:
            return answer({"error": str(refusal)}, 400)

    return endpoint


def _acting(act: Act) -> Handler:
    """An endpoint around an act: JSON in, JSON out, a refusal as {"error": sentence} with 400."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return answer({"error": "The body is not JSON."}, 400)
        if not isinstance(body, dict):
            return answer({"error": "The body is not a JSON object."}, 400)
        try:
            return answer(await act(request.app[WORLD], body))
        except Refused as refusal:
            return answer({"error": str(refusal)}, 400)

    return endpoint


def routes() -> list[web.RouteDef]:
    """Every endpoint of this module."""
    shown = {
        "": show_page,
        "/summary": show_summary,
        "/health": show_health,
        "/identity": show_identity,
        "/messages": show_messages,
        "/recipients": show_recipients,
        "/requests": show_requests,
        "/settings": show_settings,
        "/idle": show_idle,
    }
    acts: dict[str, Act] = {
        "/settings": change_settings,
        "/subscription": subscribe,
        "/inbound": write,
        "/preferences": prefer,
        "/template": change_template,
        "/event": tell_event,
        "/reset": reset,
    }
    getting = [web.get(f"/simulator{path}", _showing(handler)) for path, handler in shown.items()]
    getting += [web.get("/", to_page), web.get("/simulator/", to_page)]
    return getting + [web.post(f"/simulator{path}", _acting(act)) for path, act in acts.items()]
