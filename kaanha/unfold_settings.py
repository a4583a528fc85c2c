"""How the admin looks and what its sidebar offers."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy


def _item(title: str, icon: str, page: str, permission: str) -> dict[str, Any]:
    link = reverse_lazy(f"admin:{page}")
    return {"title": title, "icon": icon, "link": link, "permission": f"kaanha.dashboard.{permission}"}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Kaanha",
    "SITE_HEADER": "Kaanha",
    "SITE_SUBHEADER": "kaanha.dashboard.organization_name",
    "SITE_SYMBOL": "campaign",
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": "kaanha.dashboard.environment",
    "DASHBOARD_CALLBACK": "kaanha.dashboard.home",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "sizes": "any", "href": lambda _: static("kaanha/favicon.svg")}
    ],
    "STYLES": [lambda _: static("kaanha/admin.css")],
    "SCRIPTS": [
        lambda _: static("kaanha/labels.js"),
        lambda _: static("kaanha/choices.js"),
        lambda _: static("kaanha/palette.js"),
    ],
    "ACCOUNT": {
        "navigation": [
            {"title": "Your account", "link": reverse_lazy("account")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ]
    },
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "oklch(98.2% .018 155.826)",
            "100": "oklch(96.2% .044 156.743)",
            "200": "oklch(92.5% .084 155.995)",
            "300": "oklch(87.1% .15 154.449)",
            "400": "oklch(79.2% .209 151.711)",
            "500": "oklch(62.7% .17 149.579)",
            "600": "oklch(52.7% .154 150.069)",
            "700": "oklch(44.8% .119 151.328)",
            "800": "oklch(39.3% .095 152.535)",
            "900": "oklch(26.6% .065 152.934)",
            "950": "oklch(20% .05 152.934)",
        },
    },
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "navigation": [
            {
                "items": [
                    {"title": "Home", "icon": "home", "link": reverse_lazy("admin:index")},
                    _item("Broadcasts", "campaign", "broadcasts_broadcast_changelist", "sees_campaigns"),
                    _item("Sequences", "account_tree", "sequences_sequence_changelist", "sees_campaigns"),
                    _item("Templates", "description", "templates_app_messagetemplate_changelist", "sees_campaigns"),
                ],
            },
            {
                "title": "Contacts",
                "separator": True,
                "items": [
                    _item("Contacts", "group", "contacts_contact_changelist", "sees_contacts"),
                    _item("Tags", "sell", "contacts_tag_changelist", "sees_contacts"),
                    _item("Imports", "upload_file", "contacts_import_changelist", "sees_contacts"),
                    _item("Bulk changes", "checklist", "contacts_bulkchange_changelist", "sees_contacts"),
                    _item("Auto-tag rules", "rule", "contacts_autotagrule_changelist", "sees_settings"),
                ],
            },
            {
                "title": "Settings",
                "separator": True,
                "items": [
                    {
                        **_item("Organization", "apartment", "organizations_organization_changelist", "sees_settings"),
                        "active": "kaanha.dashboard.is_on_organization",
                    },
                    _item("Members", "badge", "organizations_membership_changelist", "sees_settings"),
                    _item("API keys", "key", "organizations_apikey_changelist", "sees_settings"),
                    _item("Audit log", "policy", "organizations_auditentry_changelist", "sees_settings"),
                    _item("WhatsApp accounts", "chat", "whatsapp_businessaccount_changelist", "sees_settings"),
                    _item("Phone numbers", "call", "whatsapp_phonenumber_changelist", "sees_settings"),
                    _item("Webhooks", "webhook", "webhooks_endpoint_changelist", "sees_settings"),
                    _item("Webhook log", "outbox", "webhooks_delivery_changelist", "sees_settings"),
                    _item("Event log", "history", "webhooks_event_changelist", "sees_settings"),
                    _item(
                        "Switch organization",
                        "swap_horiz",
                        "organizations_organization_choose",
                        "has_several_organizations",
                    ),
                ],
            },
            {
                "title": "Installation",
                "separator": True,
                "collapsible": True,
                "items": [
                    {
                        "title": "System",
                        "icon": "monitor_heart",
                        "link": reverse_lazy("system"),
                        "permission": "kaanha.dashboard.is_superuser",
                    },
                    _item("Meta apps", "hub", "whatsapp_metaapp_changelist", "is_superuser"),
                    _item("Callback problems", "report", "inbound_callback_changelist", "is_superuser"),
                    _item("Users", "person", "organizations_user_changelist", "is_superuser"),
                    _item("Failed sign-ins", "lock", "axes_accessattempt_changelist", "is_superuser"),
                    _item("Periodic tasks", "schedule", "django_celery_beat_periodictask_changelist", "is_superuser"),
                ],
            },
        ],
    },
}
