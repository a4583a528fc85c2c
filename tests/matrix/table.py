"""What the matrix can't read from addresses and views. A new route that needs a line here fails with what to add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.contrib.contenttypes.models import ContentType

from contacts.models import Contact, Tag
from kaanha.organizations.access import Area
from kaanha.organizations.models import Invitation
from kaanha.webhooks.models import Endpoint
from kaanha.whatsapp.models import MetaApp
from sequences.models import Sequence
from templates_app.models import MessageTemplate
from tests.matrix.world import World

# --- ids ---------------------------------------------------------------------------------------------------------

# Ids in addresses of the API that aren't called like the model whose public id they are.
MODELS: dict[str, str] = {"template": "MessageTemplate"}
# What in an address is part of what another id in it names, and no id of its own: a value that our row has.
INNER: dict[str, Any] = {"number": 1}

# Parameters after the question mark that name a row, and those that don't.
ROWS_ASKED_FOR: dict[str, type[Any]] = {
    "contact": Contact,
    "endpoint": Endpoint,
    "sequence": Sequence,
    "tag": Tag,
    "template": MessageTemplate,
}
PLAIN = {"category", "cursor", "event", "language", "limit", "page", "reason", "search", "since", "status"}

# Members of bodies that name rows, besides those that end in Id.
NAMING = {"contacts", "excludedTags", "exitTag", "phone", "tag", "tags", "template"}
# Bodies beside the document's example, by operation, each with ids that are tried one by one: "ct_…" is an id of the
# kind, "phone…" the phone of a contact, "tag…" and "template…" are names.
STEPS = [
    {"id": "hi", "type": "message", "template": "tpl_…"},
    {"id": "again", "type": "message", "template": "template…"},
    {
        "id": "fork",
        "type": "condition",
        "if": {"tag": "tag_…"},
        "yes": [{"id": "a", "type": "message", "template": "tpl_…"}],
    },
    {
        "id": "name",
        "type": "condition",
        "if": {"tag": "tag…"},
        "no": [{"id": "b", "type": "message", "template": "tpl_…"}],
    },
]
SEQUENCE = {"trigger": "tag_added", "tag": "tag_…", "exitTag": "tag_…", "phoneNumberId": "pn_…", "steps": STEPS}
BROADCAST = {
    "templateId": "tpl_…",
    "phoneNumberId": "pn_…",
    "tags": ["tag_…", "tag…"],
    "excludedTags": ["tag_…", "tag…"],
}
TEMPLATE_BY_NAME = {"template": {"name": "template…", "language": "en_US"}}
BODIES: dict[str, list[Any]] = {
    "broadcasts_create": [{"name": "Sale", **BROADCAST}, {"name": "Sale", "tags": ["tag_…"], **TEMPLATE_BY_NAME}],
    "broadcasts_test": [{"contactId": "ct_…"}, {"phone": "phone…"}],
    "broadcasts_update": [BROADCAST, TEMPLATE_BY_NAME],
    "contacts_create": [{"phone": "phone…"}, {"phone": "+919811000077", "tags": ["tag_…", "tag…"]}],
    "contacts_add_tags": [{"tags": ["tag_…", "tag…"]}],
    "messages_send": [
        {"contactId": "ct_…", "templateId": "tpl_…", "phoneNumberId": "pn_…"},
        {"phone": "phone…", **TEMPLATE_BY_NAME},
    ],
    "sequences_create": [
        {"name": "Basket", **SEQUENCE},
        {"name": "Basket", "trigger": "tag_added", "tag": "tag…", "exitTag": "tag…"},
    ],
    "sequences_enroll": [
        {"sequenceId": "seq_…", "phone": "phone…"},
        {"sequenceId": "seq_…", "contacts": ["ct_…", "phone…", {"id": "ct_…"}, {"phone": "phone…"}]},
    ],
    "sequences_update": [SEQUENCE, {"trigger": "tag_added", "tag": "tag…", "exitTag": "tag…"}],
    "templates_sync": [{"name": "template…"}],
}
# Operations that take an id or a name of nobody's without a refusal, with the reason.
TAKEN: dict[str, str] = {
    "contacts_add_tags": "a tag of a new name is made",
    "contacts_create": "a contact of a new phone is made, with tags of new names",
    "sequences_create": "a draft may name what there isn't yet: its problems say so",
    "sequences_enroll": "of a list, each contact has a result of its own",
    "sequences_update": "a draft may name what there isn't yet: its problems say so",
    "templates_sync": "Meta is asked for a name that we don't know yet",
}

# Reading that is written down, by operation.
DOWNLOADS = {"broadcasts_export"}
# Operations that ask Meta, which doesn't know the accounts of the worlds: 502.
ASKS_META = {"templates_sync"}

# --- the admin ---------------------------------------------------------------------------------------------------

# Pages that need another area than their model.
AREAS: dict[str, Area] = {"admin:contacts_contact_enroll": Area.CAMPAIGNS}
# Pages below a model's admin that are of a row of another model.
OF_OTHERS: dict[str, type[Any]] = {
    "admin:organizations_membership_invite_again": Invitation,
    "admin:organizations_membership_revoke_invitation": Invitation,
}
# Pages that members never open, whatever their role.
SUPERUSERS_ONLY = {
    "admin:organizations_organization_add",
    "admin:organizations_organization_reopen",
    "admin:organizations_organization_reopen_button",
}
# Pages that everybody has who is signed in.
FOR_EVERYBODY = {"admin:organizations_organization_choose"}
# Buttons that the rows of the worlds don't have, as they are: their endpoint listens.
NOT_NOW = {"admin:webhooks_endpoint_enable_button"}
# Pages whose opening is written down.
NOTED = {
    "admin:broadcasts_broadcast_export",
    "admin:contacts_import_rejected",
    "admin:organizations_auditentry_export",
}
# Buttons on a row: they lead to the page that asks, and it looks the row up.
BUTTONS = ("_button", "_row")
# What the address says of pages that are opened from a place in another one.
OPENED: dict[str, dict[str, str]] = {
    "admin:sequences_sequence_step": {"step": "hello"},
    "admin:sequences_sequence_step_message": {"step": "hello"},
}

# --- addresses that belong to no organization --------------------------------------------------------------------


class Who(Enum):
    ANYBODY = "anybody"
    SIGNED_IN = "whoever is signed in"
    SUPERUSERS = "superusers"


@dataclass(frozen=True)
class Open:
    """An address outside of OwnedAPI and the admins of models: who may see it, and why that reveals nothing."""

    who: Who
    reason: str
    ids: Callable[[World], dict[str, Any]] = lambda world: {}
    own: bool = False  # it changes the account of the one who asks, and nothing else


def viewed_on_site(world: World) -> dict[str, Any]:
    return {
        "content_type_id": ContentType.objects.get_for_model(Contact).pk,
        "object_id": world.rows[Contact].pk,
    }


# By the address as `Route.template` has it.
OPEN: dict[str, Open] = {
    "/": Open(Who.ANYBODY, "Leads to the admin, which asks for a login."),
    "/health": Open(Who.ANYBODY, "One word for load balancers."),
    "/callbacks/{callback_key}": Open(
        Who.ANYBODY,
        "Meta posts here, and proves itself by the verify token or the signature.",
        lambda world: {"callback_key": world.rows[MetaApp].callback_key},
    ),
    "/invitations/": Open(Who.ANYBODY, "The invitation whose link this browser has opened; it is the invited's."),
    "/invitations/{token}": Open(
        Who.ANYBODY,
        "The link of an invitation: it leads on, and shows nothing by itself.",
        lambda world: {"token": world.token},
    ),
    "/api": Open(Who.ANYBODY, "Nothing: 404."),
    "/api/[sS]*": Open(Who.ANYBODY, "Every address that isn't one: 404."),
    "/api/openapi.json": Open(Who.ANYBODY, "The API's document."),
    "/api/docs": Open(Who.ANYBODY, "The page that shows the document."),
    "/admin/system/": Open(Who.SUPERUSERS, "The processes of the installation."),
    "/admin/": Open(Who.SIGNED_IN, "Home, in numbers of the organization that the member works in."),
    "/admin/search/": Open(Who.SIGNED_IN, "Finds pages and rows that the member may view, of the own organization."),
    "/admin/login/": Open(Who.ANYBODY, "Signing in."),
    "/admin/login/code/": Open(Who.ANYBODY, "The second step of signing in; leads back where the first wasn't done."),
    "/admin/account/": Open(Who.SIGNED_IN, "The own account."),
    "/admin/account/sign-out/": Open(Who.SIGNED_IN, "Ends the own sessions.", own=True),
    "/admin/account/second-factor/": Open(Who.SIGNED_IN, "Sets up the own second factor.", own=True),
    "/admin/account/second-factor/off/": Open(Who.SIGNED_IN, "Turns the own second factor off."),
    "/admin/account/backup-codes/": Open(Who.SIGNED_IN, "The own backup codes."),
    "/admin/logout/": Open(Who.SIGNED_IN, "Signing out."),
    "/admin/password_change/": Open(Who.SIGNED_IN, "The own password."),
    "/admin/password_change/done/": Open(Who.SIGNED_IN, "Said after it."),
    "/admin/autocomplete/": Open(Who.SIGNED_IN, "Asks the admin of the model, which asks for the area."),
    "/admin/jsi18n/": Open(Who.SIGNED_IN, "Words of the admin's scripts."),
    "/admin/r/{content_type_id}/{object_id}/": Open(
        Who.SIGNED_IN, "Leads to a row's page on the site: no model has one.", viewed_on_site
    ),
    "/admin/{app_label}/": Open(
        Who.SIGNED_IN, "The models of an app that the member may view.", lambda world: {"app_label": "contacts"}
    ),
    "/admin/{url}": Open(Who.SIGNED_IN, "Every address below the admin that isn't one.", lambda world: {"url": "no"}),
}
