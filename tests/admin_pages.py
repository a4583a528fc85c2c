"""Every page of the admin, by its address, and what a page may not hold."""

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.urls import URLPattern, URLResolver

JSON_TYPES = ("application/json", "application/ld+json")
ADDRESSES = ("href", "src", "action", "formaction", "xlink:href", "data")


def routes(patterns: Any = None, before: str = "/admin/") -> Iterator[tuple[str, str]]:
    """The name and the address of every page, ids in it as `<path:object_id>`."""
    for pattern in admin.site.get_urls() if patterns is None else patterns:
        address = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, address)
        elif isinstance(pattern, URLPattern) and pattern.name:
            yield pattern.name, address


def pages(rows: dict[str, Model]) -> dict[str, str]:
    """The address of every page by its name: the pages of a model, such as contacts_contact, with the id of its row."""
    found = {}
    for name, address in routes():
        _, app, model, *_ = [*address.strip("/").split("/"), "", ""]
        row = rows.get(f"{app}_{model}")
        if "<" not in address:
            found[name] = address
        elif row is not None:
            found[name] = address.replace("<path:object_id>", str(row.pk)).replace("<id>", str(row.pk))
    return found


class Scripts(HTMLParser):
    """Collects what could run in a page although no file of ours holds it, in `faults`.

    `mark` is a text that people have typed: in an attribute that the theme evaluates, it would be evaluated.
    """

    def __init__(self, page: str, *, mark: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.mark = mark
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.inside = tag == "script" and known.get("type") not in JSON_TYPES
        for name, value in attrs:
            said = (value or "").strip().lower()
            if name.startswith("on") or (name in ADDRESSES and said.startswith("javascript:")):
                self.faults.append(f"<{tag} {name}={value!r}>")
            if name.startswith(("x-", ":", "@", "hx-on", "hx-vals")) and self.mark in (value or ""):
                self.faults.append(f"<{tag} {name}={value!r}>")

    def handle_data(self, data: str) -> None:
        if self.inside and data.strip():
            self.faults.append(f"<script>{data.strip()[:80]}")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False
