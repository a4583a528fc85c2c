"""Every address of the web process, as the URL resolver has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.urls import URLPattern, URLResolver, get_resolver

from kaanha.organizations.api import OwnedAPI
from kaanha.organizations.owned_admin import OwnedAdmin

METHODS = ("get", "post", "put", "patch", "delete")
# `<path:object_id>` and `(?P<contact>[^/]+)`: an id in an address.
PARAMETER = re.compile(r"\(\?P<(\w+)>.*?\)(?=/|$)|<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Route:
    """An address. `template` has its ids in braces: `/api/contacts/{contact}`."""

    template: str
    name: str
    view: Callable[..., Any]

    def __str__(self) -> str:
        return self.template

    @property
    def ids(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.template)

    @property
    def api(self) -> type[OwnedAPI] | None:
        """The view behind it, where it is one of the API that belongs to an organization."""
        view = getattr(self.view, "cls", None)
        return view if isinstance(view, type) and issubclass(view, OwnedAPI) else None

    @property
    def methods(self) -> list[str]:
        return [method for method in METHODS if hasattr(self.api, method)]

    @property
    def model_admin(self) -> ModelAdmin[Any] | None:
        """The admin of a model, to which the page belongs."""
        return _admins().get("/".join(self.template.split("/")[:4]))

    @property
    def owned_admin(self) -> OwnedAdmin | None:
        return self.model_admin if isinstance(self.model_admin, OwnedAdmin) else None

    def address(self, ids: Mapping[str, Any]) -> str:
        return self.template.format(**{name: quote(str(value), safe="") for name, value in ids.items()})


@cache
def routes() -> list[Route]:
    found = [Route(template, name, view) for template, name, view in _walk(get_resolver("kaanha.urls").url_patterns)]
    return list({(route.template, route.name): route for route in found}.values())


def api_routes() -> list[Route]:
    return [route for route in routes() if route.api]


def admin_routes() -> list[Route]:
    """The pages of the admins of models."""
    return [route for route in routes() if route.model_admin]


def other_routes() -> list[Route]:
    return [route for route in routes() if not route.api and not route.model_admin]


def _walk(patterns: list[Any], above: str = "/", space: str = "") -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for pattern in patterns:
        template = above + _template(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, template, f"{pattern.namespace}:" if pattern.namespace else space)
        elif isinstance(pattern, URLPattern):
            yield template, space + (pattern.name or ""), pattern.callback


def _template(pattern: str) -> str:
    bare = pattern.removeprefix("^").removesuffix("$").removesuffix(r"/?\Z").replace("\\", "")
    return PARAMETER.sub(lambda found: f"{{{found.group(1) or found.group(2)}}}", bare)


@cache
def _admins() -> dict[str, ModelAdmin[Any]]:
    return {
        f"/admin/{model._meta.app_label}/{model._meta.model_name}": known
        for model, known in admin.site._registry.items()
    }
