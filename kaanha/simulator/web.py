"""What the endpoints share: finding the world, checking the token, answering as Meta does."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from kaanha.simulator.errors import GraphError, from_json, unknown_object
from kaanha.simulator.outcomes import Fault
from kaanha.simulator.switches import Forced
from kaanha.simulator.world import Phone, Request, World

WORLD = web.AppKey("world", World)
ADDRESSEE = web.RequestKey("addressee", str)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_GATEWAY_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Error</title></head>"
    "<body><h1>Sorry, something went wrong.</h1><p>We're working on it.</p></body></html>\n"
)


def graph(body: Any, *, status: int = 200) -> web.Response:
    """JSON as Graph answers it."""
    content = json.dumps(body, separators=(",", ":")).encode()
    return web.Response(body=content, status=status, headers={"Content-Type": "application/json; charset=UTF-8"})


def gateway_page(status: int) -> web.Response:
    """The HTML of a gateway that stands before Graph and knows nothing of JSON."""
    return web.Response(text=_GATEWAY_PAGE, status=status, content_type="text/html")


def reset(request: web.Request) -> web.Response:
    """Break the connection, so that the client meets a reset and no answer."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()  # written to nobody


async def hang(request: web.Request) -> web.Response:
    """Say nothing until the client has gone."""
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.1)
    return web.Response()


def world_of(request: web.Request) -> World:
    """The world that this server simulates."""
    return request.app[WORLD]


def version_of(request: web.Request) -> int:
    """The major version in the path: 25 for v25.0."""
    return int(request.match_info["version"][1:].split(".")[0])


def phone_of(request: web.Request) -> Phone:
    """The number that the path names. Raises 100 with subcode 33."""
    phone_id = request.match_info["id"]
    phone = world_of(request).phones.get(phone_id)
    if phone is None:
        raise unknown_object(phone_id, method=request.method)
    return phone


def account_of(request: web.Request) -> World:
    """The world, if the path names its account. Raises 100 with subcode 33."""
    world = world_of(request)
    if request.match_info["id"] != world.options.waba_id:
        raise unknown_object(request.match_info["id"], method=request.method)
    return world


async def json_of(request: web.Request) -> dict[str, Any]:
    """The parameters of a call: JSON, a form, or nothing."""
    if request.content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise GraphError(100, "The request body is not JSON", message="(#100) Invalid parameter") from error
    if not isinstance(body, dict):
        raise GraphError(100, "The request body is not an object", message="(#100) Invalid parameter")
    return body


def check_token(request: web.Request, token: str) -> None:
    """Raise 200 without a token, 190 with another one."""
    given = request.headers.get("Authorization", "")
    scheme, _, value = given.partition(" ")
    value = value.strip() if scheme.lower() in ("bearer", "oauth") else request.query.get("access_token", "")
    if not value:
        raise GraphError(200)
    if value != token:
        raise GraphError(190)


async def spoiled(request: web.Request, forced: Forced) -> web.StreamResponse:
    """The answer of a forced fault that accepts nothing."""
    if forced.error is not None:
        raise from_json(forced.error)
    if forced.status is not None:
        return gateway_page(forced.status)
    match forced.fault:
        case Fault.HTML:
            return gateway_page(500)
        case Fault.RESET:
            return reset(request)
        case Fault.HANG:
            return await hang(request)
        case Fault.TOO_MANY:
            raise GraphError(130429, status=429)
        case _:
            raise GraphError(131000)


@web.middleware
async def as_graph(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the token of everything outside /simulator, turn refusals into Meta's JSON, remember the request."""
    path = request.path
    if path.startswith("/simulator") or path == "/":
        return await handler(request)
    world = request.app[WORLD]
    try:
        check_token(request, world.options.access_token)
        answer = await handler(request)
        outcome = str(answer.status)
    except GraphError as error:
        outcome = f"{error.status} · {error.code}"
        answer = graph(error.body(), status=error.status)
    except web.HTTPNotFound:
        unknown = unknown_object(path.strip("/").split("/")[-1], method=request.method)
        outcome, answer = "400 · 100", graph(unknown.body(), status=400)
    world.recent.append(Request(time.time(), request.method, path, outcome, request.get(ADDRESSEE, "")))
    return answer


def managed(handler: Handler) -> Handler:
    """A management call: it meets forced faults and counts towards the hour's limit."""

    async def checked(request: web.Request) -> web.StreamResponse:
        world = world_of(request)
        world.limits.spend_management(per_hour=world.switches.management_limit, now=time.monotonic())
        forced = world.forced(on="management")
        if forced and forced.callback is None:
            return await spoiled(request, forced)
        return await handler(request)

    return checked
