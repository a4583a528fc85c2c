"""Template management: list, create, edit, delete, unpause, and the review that Meta does in between."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from kaanha.simulator import creation
from kaanha.simulator.errors import GraphError, invalid_template, required, unknown_object
from kaanha.simulator.limits import DAY
from kaanha.simulator.templates import PAGE, Template
from kaanha.simulator.web import account_of, graph, json_of, managed, world_of
from kaanha.simulator.world import World

TEMPLATES_MAX = 6000  # of an account with a verified portfolio
EDITABLE = ("APPROVED", "REJECTED", "PAUSED")
EDITS_PER_MONTH = 10
MONTH = 30 * DAY


def wanted_fields(request: web.Request) -> list[str] | None:
    """The names in `fields`, or None where the request names none."""
    named = request.query.get("fields")
    return [name.strip() for name in named.split(",")] if named else None


@managed
async def list_templates(request: web.Request) -> web.StreamResponse:
    """One page of the account's templates that fit `name` (a part of it), `language`, `status` and `category`."""
    world, query = account_of(request), request.query
    found = [template for template in world.templates if _fits(template, query)]
    limit = query.get("limit", str(PAGE))
    if not limit.isdigit() or int(limit) < 1:
        raise GraphError(100, message="(#100) Param limit must be greater than or equal to 1")
    page = world.templates.page(
        found, after=query.get("after"), limit=int(limit), empty_middle=world.switches.empty_page
    )
    fields = wanted_fields(request)
    body: dict[str, Any] = {"data": [template.as_json(fields) for template in page.templates]}
    if found:
        body["paging"] = {"cursors": {"before": page.before, "after": page.after or page.before}}
    if page.after:
        following = urlencode({**query, "after": page.after})
        body["paging"]["next"] = f"{request.scheme}://{request.host}{request.path}?{following}"
    if "summary" in query:
        body["summary"] = _summary(world)
    return graph(body)


def _fits(template: Template, query: Any) -> bool:
    if query.get("name", "") not in template.name:
        return False
    return all(query.get(name) in (None, "", getattr(template, name)) for name in ("language", "status", "category"))


def _summary(world: World) -> dict[str, Any]:
    count = len(world.templates)
    return {
        "total_count": count,
        "message_template_count": count,
        "message_template_limit": TEMPLATES_MAX,
        "are_translations_complete": False,
    }


@managed
async def create_template(request: web.Request) -> web.StreamResponse:
    """Take in a template for review; it is APPROVED (or what the switch says) a while later, with a callback."""
    world = account_of(request)
    body = await json_of(request)
    creation.check_new(body)
    key = (body["name"], body["language"])
    if world.templates.find(*key):
        raise invalid_template(
            2388024,
            "Content in this language already exists",
            f"There is already {key[1]} content for this template. You can create a new template and try again.",
        )
    if key in world.templates.resting:
        raise invalid_template(
            2388023,
            "Message template language is being deleted",
            f"New {key[1]} content can't be added while the existing content is being deleted. Try again in 4 weeks.",
        )
    if len(world.templates) >= TEMPLATES_MAX:
        raise invalid_template(2388019, "Template limit reached", "This account can't have more templates.")
    template = world.templates.add({**body, "status": "PENDING", "components": read_back(body["components"])})
    review(world, template)
    return graph({"id": str(template.id), "status": template.status, "category": template.category})


def read_back(components: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Components as they read afterwards: upper case, and an uploaded handle has become a short-lived URL."""
    shown = []
    for component in components:
        component = component | {"type": component["type"].upper()}
        handles = component["example"].get("header_handle") if isinstance(component.get("example"), dict) else None
        if isinstance(handles, list):
            urls = [f"https://scontent.example.test/{str(handle)[-12:]}" for handle in handles]
            component["example"] = component["example"] | {"header_handle": urls}
        shown.append(component)
    return shown


def review(world: World, template: Template) -> None:
    """Have Meta decide in a while."""
    delay = world.rng.uniform(*world.switches.template_approval)
    world.callbacks.schedule(delay, _decide, world, template)


def _decide(world: World, template: Template) -> None:
    if template.status != "PENDING" or world.templates.by_id(template.id) is not template:
        return
    verdict = "REJECTED" if _side_by_side(template) else world.switches.template_verdict
    reason = "INVALID_FORMAT" if verdict == "REJECTED" else "NONE"
    world.tell("message_template_status_update", None, set_status(template, verdict, reason=reason))


def _side_by_side(template: Template) -> bool:
    """Two variables with nothing between them are refused, but only in review."""
    return "}}{{" in template.shape.body_text.replace(" ", "")


def set_status(template: Template, status: str, *, reason: str | None = "NONE") -> dict[str, Any]:
    """Give a template another status, and answer the value of the callback that tells of it."""
    template.status = status
    template.rejected_reason = reason if status == "REJECTED" and reason else "NONE"
    value: dict[str, Any] = {
        "event": status,
        "message_template_id": template.id,
        "message_template_name": template.name,
        "message_template_language": template.language,
        "message_template_category": template.category,
        "reason": reason,
    }
    match status:
        case "PAUSED":
            template.pause = template.pause or "quality"
            value["other_info"] = {"title": "FIRST_PAUSE", "description": "Paused for 3 hours because of low quality."}
        case "DISABLED":
            value["disable_info"] = {"disable_date": int(time.time())}
        case "REJECTED":
            text = "Change the content so that it follows the guidelines, and submit it again."
            value["rejection_info"] = {"reason": template.rejected_reason, "recommendation": text}
    if status != "PAUSED":
        template.pause = None
    return value


async def edit(request: web.Request, template: Template) -> web.StreamResponse:
    """Replace components or category; the template goes back into review and can't be sent meanwhile."""
    world, body = world_of(request), await json_of(request)
    _check_editable(template, body)
    if "parameter_format" in body:
        template.parameter_format = "NAMED" if creation.is_named(body) else "POSITIONAL"
    if "category" in body:
        template.category = body["category"]
    if "components" in body:
        template.components = read_back(body["components"])
        template.reshape()
    template.edits.append(time.time())
    template.status = "PENDING"
    review(world, template)
    return graph({"success": True, "id": str(template.id), "name": template.name, "category": template.category})


def _check_editable(template: Template, body: dict[str, Any]) -> None:
    if not {"components", "category", "parameter_format", "message_send_ttl_seconds"} & set(body):
        raise required("components")
    approved, now = template.status == "APPROVED", time.time()
    today = sum(1 for at in template.edits if at > now - DAY)
    month = sum(1 for at in template.edits if at > now - MONTH)
    if template.status not in EDITABLE or (approved and (today >= 1 or month >= EDITS_PER_MONTH)):
        raise invalid_template(
            2388039, "Template can't be edited", "It is in review, or has been edited too often in 24 hours or 30 days."
        )
    if "category" in body:
        creation.check_category(body["category"])
        if approved and body["category"] != template.category:
            raise invalid_template(
                2388039, "Category can't be changed", "The category of an approved template is fixed."
            )
    if "components" in body:
        named = creation.is_named({"parameter_format": template.parameter_format} | body)
        creation.check_components(body["components"], category=body.get("category", template.category), named=named)


@managed
async def delete_template(request: web.Request) -> web.StreamResponse:
    """Delete every language of `name`, one language with `hsm_id` as well, or up to 100 ids in `hsm_ids`."""
    world = account_of(request)
    doomed = _doomed(world, dict(request.query))
    if not doomed:
        raise invalid_template(2593002, "Message template not found", "There is no message template to delete.")
    for template in doomed:
        if template.status == "APPROVED":
            world.templates.resting.add((template.name, template.language))
        world.templates.remove(template)
    return graph({"success": True})


def _doomed(world: World, query: dict[str, str]) -> list[Template]:
    if "hsm_ids" in query:
        try:
            ids = json.loads(query["hsm_ids"])
        except ValueError as error:
            raise GraphError(100, message="(#100) Param hsm_ids must be an array.") from error
        return [template for template in map(world.templates.by_id, ids) if template]
    if "name" not in query:
        raise required("name")
    named = world.templates.named(query["name"])
    return [each for each in named if query.get("hsm_id") in (None, str(each.id))]


@managed
async def unpause_template(request: web.Request) -> web.StreamResponse:
    """Undo a pacing pause; a quality pause ends by itself only."""
    world = world_of(request)
    template = world.templates.by_id(request.match_info["id"])
    if template is None:
        raise unknown_object(request.match_info["id"], method="post")
    if template.status != "PAUSED" or template.pause != "pacing":
        raise invalid_template(2388039, "Template can't be unpaused", "Only a pause of template pacing can be undone.")
    value = set_status(template, "APPROVED") | {"other_info": {"title": "UNPAUSE", "description": "Unpaused."}}
    world.tell_soon("message_template_status_update", value)
    return graph({"success": True})


def routes() -> list[web.RouteDef]:
    """Every endpoint of this module."""
    collection = r"/{version:v\d+\.\d+}/{id}/message_templates"
    return [
        web.get(collection, list_templates),
        web.post(collection, create_template),
        web.delete(collection, delete_template),
        web.post(r"/{version:v\d+\.\d+}/{id}/unpause", unpause_template),
    ]
