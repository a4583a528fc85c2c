"""An organization that is ready to write to everybody: account, number, template, and contacts who all opted in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

from contacts.models import Tag
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber, Portfolio
from templates_app.models import MessageTemplate


@dataclass(frozen=True)
class Store:
    owner: Organization
    number: PhoneNumber
    template: MessageTemplate


def opened(
    contacts: int,
    *,
    body: str = "There is news.",
    category: str = "MARKETING",
    name: str = "benchmark",
    phones: str = "+9190",
) -> Store:
    """A store with so many contacts, whose numbers begin with `phones` and whose template has the body; none of them
    holds a tag."""
    owner = Organization.objects.create(name="Benchmark", slug=name)
    app = MetaApp.objects.create(app_id=name, secret="secret")  # noqa: S106
    portfolio = Portfolio.objects.create(organization=owner, meta_id=name)
    within: dict[str, Any] = {"organization": owner, "app": app, "portfolio": portfolio}
    account = BusinessAccount.objects.create(**within, waba_id=name, access_token="token")  # noqa: S106
    number = PhoneNumber.objects.create(organization=owner, account=account, phone_number_id=name)
    template = MessageTemplate.objects.create(
        organization=owner, account=account, name="news", language="en_US", category=category, status="APPROVED",
        components=[{"type": "BODY", "text": body}],
    )  # fmt: skip
    execute(_CONTACTS, [owner.pk, phones, contacts])
    execute("VACUUM ANALYZE contacts_contact")
    return Store(owner, number, template)


def tagged(store: Store, name: str, contacts: int) -> Tag:
    """A new tag that the first so many contacts hold."""
    tag = Tag.objects.create(organization=store.owner, name=name)
    execute(_HOLD, [tag.pk, store.owner.pk, contacts])
    execute("VACUUM ANALYZE contacts_contacttag")
    return tag


def execute(statement: str, values: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


_CONTACTS = """
INSERT INTO contacts_contact (organization_id, phone, country, name, email, attributes, opted_in, opt_in_source,
  opt_in_proof, opt_out_source, created_at, updated_at)
SELECT %s, %s || lpad(n::text, 8, '0'), 'IN', 'Sample ' || n, '', '{"city": "Pune"}', true, 'import', '', '',
  now(), now()
FROM generate_series(1, %s) AS n
"""
_HOLD = """
INSERT INTO contacts_contacttag (contact_id, tag_id, added_at)
SELECT id, %s, now() FROM contacts_contact WHERE organization_id = %s ORDER BY id LIMIT %s
"""
