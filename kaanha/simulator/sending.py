"""POST /{PHONE_ID}/messages and /marketing_messages: the one endpoint that everything else is about."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from kaanha.simulator import validation
from kaanha.simulator.errors import GraphError, from_json
from kaanha.simulator.ledger import Message
from kaanha.simulator.outcomes import ACCEPTING, Card, Fault
from kaanha.simulator.phone_numbers import user_id_of
from kaanha.simulator.switches import Forced
from kaanha.simulator.templates import Template
from kaanha.simulator.validation import Addressee
from kaanha.simulator.web import (
    ADDRESSEE,
    gateway_page,
    graph,
    hang,
    json_of,
    phone_of,
    reset,
    spoiled,
    version_of,
    world_of,
)
from kaanha.simulator.world import Phone, World

EARLY_PATIENCE = 3.0  # seconds to hold an answer back for its sent status at most


@dataclass(frozen=True, slots=True)
class Sending:
    """A message that Meta could accept: everything in it has been checked."""

    phone: Phone
    addressee: Addressee
    template: Template | None
    body: Mapping[str, Any]
    raw: bytes
    lite: bool

    @property
    def template_name(self) -> str | None:
        return self.template.name if self.template else None


async def post_message(request: web.Request) -> web.StreamResponse:
    """Send a message, or mark one as read."""
    world = world_of(request)
    try:
        return await _post(request, world)
    except GraphError as error:
        world.ledger.refused[str(error.code)] += 1
        raise


async def _post(request: web.Request, world: World) -> web.StreamResponse:
    phone = phone_of(request)
    body = await json_of(request)
    if body.get("status") == "read":
        return _mark_read(world, body)
    world.limits.spend_throughput(phone.id, rate=world.switches.throughput, now=time.monotonic())
    sending = _checked(request, world, phone, body, await request.read())
    forced = world.forced(on="messages", to=sending.addressee.digits, template=sending.template_name)
    card = world.card(sending.addressee)
    spoils = not forced and world.fault_due(card, phone, sending.addressee.wa_id)
    fault = forced.fault if forced else card.fault if card and spoils else None
    await _take_time(world)
    if forced and forced.callback is None and fault not in ACCEPTING:
        return await _forced(request, world, forced)
    if fault and card and fault not in ACCEPTING:
        return _refused(request, world, card)
    failing = int(forced.callback["code"]) if forced and forced.callback else None
    return await _accepted(request, world, sending, fault=fault, failing=failing)


def _checked(request: web.Request, world: World, phone: Phone, body: Mapping[str, Any], raw: bytes) -> Sending:
    kind = validation.envelope(body)
    addressee = validation.addressee(body, own_digits=phone.digits, rewritten=world.switches.wa_id_rewritten)
    request[ADDRESSEE] = addressee.digits
    lite = request.path.endswith("/marketing_messages")
    template = None
    if kind == "template":
        template = _template(world, phone, body["template"], version=version_of(request))
    elif kind == "text":
        validation.text(body)
    if lite and (template is None or template.category != "MARKETING"):
        raise GraphError(134100)
    if template and template.category == "AUTHENTICATION" and addressee.by_user_id:
        raise GraphError(131062)
    if world.switches.pair_rate:
        world.limits.spend_pair(phone.id, addressee.wa_id, now=time.monotonic())
    return Sending(phone, addressee, template, body, raw, lite)


def _template(world: World, phone: Phone, sent: Mapping[str, Any], *, version: int) -> Template:
    name, language = validation.names(sent)
    template = validation.state(world.templates.find(name, language), name=name, language=language)
    media_ids = world.uploads.of_phone(phone.id) if world.uploads.media else ()
    validation.components(sent, template, media_ids=media_ids, version=version)
    return template


async def _take_time(world: World) -> None:
    low, high = world.switches.latency
    if high:
        await asyncio.sleep(world.rng.uniform(low, high))


async def _forced(request: web.Request, world: World, forced: Forced) -> web.StreamResponse:
    if forced.error is None and forced.fault in (None, Fault.HTML, Fault.RESET):
        world.ledger.refused[f"HTTP {forced.status}" if forced.status else str(forced.fault)] += 1
    return await spoiled(request, forced)


def _refused(request: web.Request, world: World, card: Card) -> web.StreamResponse:
    match card.fault:
        case Fault.HTML:
            world.ledger.refused["html"] += 1
            return gateway_page(500)
        case Fault.RESET:
            world.ledger.refused["reset"] += 1
            return reset(request)
        case Fault.TOO_MANY:
            raise from_json({"code": card.code, "status": 429})
        case _:
            raise from_json({"code": card.code})


async def _accepted(
    request: web.Request, world: World, sending: Sending, *, fault: Fault | None, failing: int | None
) -> web.StreamResponse:
    opaque = sending.body.get("biz_opaque_callback_data")
    message = world.accept(sending.phone, sending.addressee, sending.template, opaque, sending.raw, lite=sending.lite)
    early = bool(world.switches.early) and world.rng.random() < world.switches.early
    world.follow(message, phone=sending.phone, failing=failing or _media_trouble(sending), early=early)
    if fault:
        world.ledger.unanswered += 1
        return await _spoiled_acceptance(request, sending, message, fault)
    if early:
        await _until_told(world, message)
    return graph(_answer(world, sending, message))


def _media_trouble(sending: Sending) -> int | None:
    """131053 for a media link that nobody can fetch: one of the top-level domain .invalid, which never exists."""
    if sending.template is None or sending.template.shape.header not in ("IMAGE", "VIDEO", "DOCUMENT"):
        return None
    for part in sending.body["template"].get("components") or ():
        if part["type"].lower() == "header":
            [parameter] = part["parameters"]
            media = parameter[parameter["type"]]
            return 131053 if ".invalid/" in f"{media.get('link', '')}/" else None
    return None


async def _until_told(world: World, message: Message) -> None:
    """Hold the answer back until the first status has been posted."""
    deadline = time.monotonic() + EARLY_PATIENCE
    while time.monotonic() < deadline and (not message.statuses or world.callbacks.pending):
        await asyncio.sleep(0.01)


async def _spoiled_acceptance(
    request: web.Request, sending: Sending, message: Message, fault: Fault
) -> web.StreamResponse:
    match fault:
        case Fault.ACCEPTED_HTML:
            return gateway_page(500)
        case Fault.ACCEPTED_RESET:
            return reset(request)
        case Fault.HANG:
            return await hang(request)
    answer = _answer(world_of(request), sending, message)
    if fault is Fault.WITHOUT_ID:
        answer["messages"] = [{"message_status": "accepted"}]
        return graph(answer)
    whole = json.dumps(answer)
    return web.Response(text=whole[: len(whole) // 2], content_type="application/json")


def _answer(world: World, sending: Sending, message: Message) -> dict[str, Any]:
    addressee = sending.addressee
    contact = {"input": addressee.written}
    contact |= {"user_id": user_id_of(message.wa_id)} if addressee.by_user_id else {"wa_id": message.wa_id}
    accepted = {"id": message.wamid}
    if sending.template:
        card = world.card(addressee)
        accepted["message_status"] = "held_for_quality_assessment" if card and card.held else "accepted"
    return {"messaging_product": "whatsapp", "contacts": [contact], "messages": [accepted]}


def _mark_read(world: World, body: Mapping[str, Any]) -> web.Response:
    if not str(body.get("message_id", "")).startswith("wamid."):
        raise GraphError(131009, "Message id is not valid")
    return graph({"success": True})
