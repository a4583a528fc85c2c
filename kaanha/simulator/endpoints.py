"""Graph's other endpoints: accounts, numbers, subscriptions, media, uploads. Templates have a module of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from kaanha.simulator import template_endpoints
from kaanha.simulator.errors import GraphError, required, unknown_object
from kaanha.simulator.media import Media, Session
from kaanha.simulator.switches import Switches
from kaanha.simulator.web import account_of, graph, json_of, managed, phone_of, world_of
from kaanha.simulator.world import HandshakeFailed, Phone, World, handshake

_PHONE_FIELDS = ("verified_name", "code_verification_status", "display_phone_number", "quality_rating", "platform_type",
                 "throughput", "id")  # fmt: skip
_ACCOUNT_FIELDS = ("id", "name", "currency", "timezone_id", "message_template_namespace")
SAMPLE_NAME = "Sample Business"


def chosen(everything: Mapping[str, Any], request: web.Request, default: tuple[str, ...]) -> dict[str, Any]:
    """The fields that the request names, or the default ones; the id always."""
    named = request.query.get("fields")
    wanted = [name.strip().split("{")[0] for name in named.split(",")] if named else list(default)
    return {name: everything[name] for name in dict.fromkeys([*wanted, "id"]) if name in everything}


def phone_json(phone: Phone, switches: Switches) -> dict[str, Any]:
    """A number with all its fields."""
    high = switches.throughput is None or switches.throughput >= 1000
    people = switches.messaging_limit
    return {
        "id": phone.id,
        "display_phone_number": phone.display,
        "verified_name": SAMPLE_NAME,
        "quality_rating": phone.quality,
        "throughput": {"level": "HIGH" if high else "STANDARD"},
        "whatsapp_business_manager_messaging_limit": tier(people),
        "messaging_limit_tier": tier(people),
        "status": phone.status,
        "code_verification_status": "VERIFIED",
        "name_status": "APPROVED",
        "platform_type": "CLOUD_API",
        "account_mode": "LIVE",
        "is_official_business_account": False,
        "health_status": health("PHONE_NUMBER", phone.id),
        "webhook_configuration": {"phone_number": phone.override} if phone.override else {},
    }


def tier(people: int | None) -> str:
    """The messaging tier that lets through as many people as the switch does."""
    steps = ((250, "TIER_250"), (2000, "TIER_2K"), (10_000, "TIER_10K"), (100_000, "TIER_100K"))
    if people is None:
        return "TIER_100K"
    return next((name for limit, name in steps if people <= limit), "TIER_UNLIMITED")


def health(kind: str, object_id: str) -> dict[str, Any]:
    """A health_status with nothing wrong."""
    entity = {"entity_type": kind, "id": object_id, "can_send_message": "AVAILABLE"}
    return {"can_send_message": "AVAILABLE", "entities": [entity]}


def account_json(world: World) -> dict[str, Any]:
    """The account with all its fields."""
    waba_id = world.options.waba_id
    return {
        "id": waba_id,
        "name": SAMPLE_NAME,
        "currency": "USD",
        "timezone_id": "1",
        "message_template_namespace": "00000000_0000_0000_0000_000000000001",
        "account_review_status": "APPROVED",
        "business_verification_status": "verified",
        "ownership_type": "CLIENT_OWNED",
        "owner_business_info": {"id": "100000000000001", "name": SAMPLE_NAME},
        "health_status": health("WABA", waba_id),
    }


@managed
async def get_object(request: web.Request) -> web.StreamResponse:
    """Any object by its id: number, account, app, template, media."""
    world, object_id = world_of(request), request.match_info["id"]
    if object_id in world.phones:
        return graph(chosen(phone_json(world.phones[object_id], world.switches), request, _PHONE_FIELDS))
    if object_id == world.options.waba_id:
        return graph(chosen(account_json(world), request, _ACCOUNT_FIELDS))
    if object_id in (world.options.app_id, "app"):
        return graph({"id": world.options.app_id, "name": "Sample App"})
    if object_id in world.uploads.media:
        return graph(_media_json(request, world.uploads.media[object_id]))
    template = world.templates.by_id(object_id)
    if template:
        return graph(template.as_json(template_endpoints.wanted_fields(request)))
    raise unknown_object(object_id, method="get")


@managed
async def post_object(request: web.Request) -> web.StreamResponse:
    """Change an object: edit a template, or set a number's own callback URL."""
    world, object_id = world_of(request), request.match_info["id"]
    if object_id in world.phones:
        await _override_phone(world.phones[object_id], (await json_of(request)).get("webhook_configuration"))
        return graph({"success": True})
    template = world.templates.by_id(object_id)
    if template:
        return await template_endpoints.edit(request, template)
    raise unknown_object(object_id, method="post")


async def _override_phone(phone: Phone, wanted: Any) -> None:
    if not isinstance(wanted, dict):
        raise required("webhook_configuration")
    url = wanted.get("override_callback_uri")
    if url:
        await _prove(url, wanted.get("verify_token", ""))
    phone.override = url or None


async def _prove(url: str, verify_token: str) -> None:
    try:
        await handshake(url, verify_token)
    except HandshakeFailed as error:
        raise GraphError(
            100,
            str(error),
            message="(#100) Callback verification failed",
            subcode=2200,
            user=("Callback verification failed", str(error)),
        ) from error


@managed
async def delete_object(request: web.Request) -> web.StreamResponse:
    """Delete a media file."""
    world, object_id = world_of(request), request.match_info["id"]
    if world.uploads.media.pop(object_id, None) is None:
        raise unknown_object(object_id, method="delete")
    return graph({"success": True})


@managed
async def list_phone_numbers(request: web.Request) -> web.StreamResponse:
    world = account_of(request)
    numbers = [chosen(phone_json(phone, world.switches), request, _PHONE_FIELDS) for phone in world.phones.values()]
    ids = list(world.phones)
    return graph({"data": numbers, "paging": {"cursors": {"before": ids[0], "after": ids[-1]}}})


@managed
async def subscribe_app(request: web.Request) -> web.StreamResponse:
    """Subscribe the app to the account; an override URL must pass the handshake, no body removes the override."""
    world = account_of(request)
    body = await json_of(request)
    url = body.get("override_callback_uri") or request.query.get("override_callback_uri")
    if url:
        await _prove(url, body.get("verify_token") or request.query.get("verify_token", ""))
    world.change_subscription(replace(world.subscription, override=url or None, subscribed=True))
    return graph({"success": True})


@managed
async def subscribed_apps(request: web.Request) -> web.StreamResponse:
    world = account_of(request)
    app = {"id": world.options.app_id, "name": "Sample App", "link": "https://www.example.test/"}
    entry: dict[str, Any] = {"whatsapp_business_api_data": app}
    if world.subscription.override:
        entry["override_callback_uri"] = world.subscription.override
    return graph({"data": [entry] if world.subscription.subscribed else []})


@managed
async def unsubscribe_app(request: web.Request) -> web.StreamResponse:
    world = account_of(request)
    world.change_subscription(replace(world.subscription, override=None, subscribed=False))
    return graph({"success": True})


async def upload_media(request: web.Request) -> web.StreamResponse:
    """POST /{PHONE_ID}/media: multipart with messaging_product, type, file."""
    phone = phone_of(request)
    form = await request.post()
    if form.get("messaging_product") != "whatsapp":
        raise required("messaging_product")
    file = form.get("file")
    if not isinstance(file, web.FileField):
        raise required("file")
    mime_type = str(form.get("type") or file.content_type)
    media = world_of(request).uploads.keep(phone.id, mime_type, file.file.read())
    return graph({"id": media.id})


def _media_json(request: web.Request, media: Media) -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "url": f"{request.scheme}://{request.host}/{request.match_info['version']}/{media.id}/content",
        "mime_type": media.mime_type,
        "sha256": media.sha256,
        "file_size": len(media.content),
        "id": media.id,
    }


async def download_media(request: web.Request) -> web.StreamResponse:
    media = world_of(request).uploads.media.get(request.match_info["id"])
    if media is None:
        raise unknown_object(request.match_info["id"], method="get")
    return web.Response(body=media.content, content_type=media.mime_type)


@managed
async def open_upload(request: web.Request) -> web.StreamResponse:
    """POST /{APP_ID}/uploads: begin a resumable upload."""
    world = world_of(request)
    if request.match_info["id"] not in (world.options.app_id, "app"):
        raise unknown_object(request.match_info["id"], method="post")
    given = dict(request.query) | await json_of(request)
    length = str(given.get("file_length", ""))
    if not length.isdigit():
        raise required("file_length")
    session = world.uploads.open(length=int(length), mime_type=str(given.get("file_type", "")))
    return graph({"id": session.id})


async def continue_upload(request: web.Request) -> web.StreamResponse:
    """POST /upload:…: bytes from `file_offset` on; the handle once the file is whole."""
    session = _session(request)
    offset = request.headers.get("file_offset", "0")
    whole = world_of(request).uploads.extend(session, int(offset) if offset.isdigit() else -1, await request.read())
    return graph({"h": session.handle} if whole else {"id": session.id, "file_offset": len(session.content)})


async def upload_state(request: web.Request) -> web.StreamResponse:
    session = _session(request)
    return graph({"id": session.id, "file_offset": len(session.content)})


def _session(request: web.Request) -> Session:
    session = world_of(request).uploads.session(request.match_info["session"])
    if session is None:
        raise unknown_object(f"upload:{request.match_info['session']}", method=request.method)
    return session


@managed
async def debug_token(request: web.Request) -> web.StreamResponse:
    """What the token in `input_token` is and may do."""
    world = world_of(request)
    valid = request.query.get("input_token", "") == world.options.access_token
    scopes = ["whatsapp_business_management", "whatsapp_business_messaging"]
    found: dict[str, Any] = {"app_id": world.options.app_id, "type": "SYSTEM_USER", "is_valid": valid}
    found |= {"application": "Sample App", "expires_at": 0, "scopes": scopes if valid else []}
    return graph({"data": found})


def routes() -> list[web.RouteDef]:
    """Every endpoint of this module."""
    versioned = r"/{version:v\d+\.\d+}"
    any_id = versioned + r"/{id}"
    return [
        web.get(versioned + "/debug_token", debug_token),
        web.get(versioned + r"/upload:{session}", upload_state),
        web.post(versioned + r"/upload:{session}", continue_upload),
        web.get(any_id + "/phone_numbers", list_phone_numbers),
        web.get(any_id + "/subscribed_apps", subscribed_apps),
        web.post(any_id + "/subscribed_apps", subscribe_app),
        web.delete(any_id + "/subscribed_apps", unsubscribe_app),
        web.post(any_id + "/media", upload_media),
        web.get(any_id + "/content", download_media),
        web.post(any_id + "/uploads", open_upload),
        web.get(any_id, get_object),
        web.post(any_id, post_object),
        web.delete(any_id, delete_object),
    ]
