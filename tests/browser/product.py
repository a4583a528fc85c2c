"""The whole product as it is installed, for browsers: real processes on the tests' database, and a simulated WhatsApp.

with product.running(database_url, logs) as it:
    shop = it.shop("Corner shop")      # an organization that can send
    it.open(shop.owner)                # the cookie of somebody who is signed in
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils import timezone

from contacts.models import ContactTag
from kaanha import embedded, processes
from kaanha.organizations.models import Organization, Role
from kaanha.simulator import Simulator
from kaanha.simulator.samples import SAMPLES
from kaanha.simulator.web import WORLD
from kaanha.whatsapp.models import MetaApp, PhoneNumber
from templates_app.models import MessageTemplate
from tests.factories import (
    BusinessAccountFactory,
    ContactFactory,
    MembershipFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TagFactory,
    TemplateFactory,
    UserFactory,
)

# The first is of whoever connects the simulator's account by hand; each shop takes one of the others.
NUMBERS = tuple(f"2000000000{n:05}" for n in range(1, 60))
SPEED = 20  # of what Meta tells of messages


@dataclass(frozen=True, slots=True)
class Shop:
    """An organization that is connected, with two templates: `season_greetings` and `order_update`."""

    organization: Organization
    number: PhoneNumber
    templates: Mapping[str, MessageTemplate]

    def member(self, role: str = Role.OWNER) -> Any:
        return MembershipFactory(organization=self.organization, role=role, user=somebody()).user

    def people(self, tag: str, names: Sequence[str], *, ending: str = "60") -> list[Any]:
        """New contacts that hold the tag; their numbers end in `ending`, which the simulator reads like a test card."""
        organization = self.organization
        given: Any = TagFactory(organization=organization, name=tag)
        made: list[Any] = [
            ContactFactory(organization=organization, name=name, phone=f"+49151{organization.pk:04}{n:02}{ending}")
            for n, name in enumerate(names)
        ]  # fmt: skip
        ContactTag.objects.bulk_create(ContactTag(contact=one, tag=given, added_at=timezone.now()) for one in made)
        return made


class Product:
    """What runs: its address, and the simulated WhatsApp as witness."""

    def __init__(self, address: str, meta: Simulator) -> None:
        self.address = address
        self.meta = meta
        self.app = MetaApp.objects.create(app_id=meta.options.app_id, secret=meta.options.app_secret)
        self._numbers = iter(NUMBERS[1:])

    def subscribe(self) -> None:
        """Enter the callback's address at Meta."""
        self.meta.subscribe(f"{self.address}/callbacks/{self.app.callback_key}", self.app.verify_token)

    @contextmanager
    def listing_one_number(self) -> Iterator[None]:
        """Inside, Meta tells of the first number alone: the others have their owners."""
        serving = self.meta._server._runner
        assert serving is not None
        world = serving.app[WORLD]
        everything = world.phones
        world.phones = {NUMBERS[0]: everything[NUMBERS[0]]}
        yield
        world.phones = everything

    def shop(self, name: str, **fields: Any) -> Shop:
        organization: Any = OrganizationFactory(name=name, timezone="Asia/Kolkata", **fields)
        account = BusinessAccountFactory(organization=organization, app=self.app)
        number: Any = PhoneNumberFactory(
            organization=organization, account=account, phone_number_id=next(self._numbers), verified_name=name
        )
        owned = {"organization": organization, "account": account}
        made: dict[str, Any] = {
            each["name"]: TemplateFactory(**each, **owned) for each in templates("season_greetings", "order_update")
        }
        return Shop(organization, number, made)

    def received(self, template: str, people: Sequence[Any]) -> dict[str, int]:
        """How many messages of the template Meta has accepted, by the name of the person."""
        names = {person.phone.removeprefix("+"): person.name for person in people}
        messages = self.meta.messages(template=template)
        reached = [names[message["to"]] for message in messages if message["to"] in names]
        return {name: len(list(same)) for name, same in itertools.groupby(sorted(reached))}


def somebody(**fields: Any) -> Any:
    return UserFactory(is_staff=True, **fields)


def templates(*names: str) -> Iterator[dict[str, Any]]:
    """The simulator's own templates of these names, as rows have them."""
    for each in SAMPLES:
        if each["name"] in names and each["language"] == "en_US":
            yield {name: each[name] for name in ("name", "language", "category", "components")}


@contextmanager
def running(database_url: str, logs: Path) -> Iterator[Product]:
    """Web, workers, beat and the simulated WhatsApp, on a database that has its tables."""
    port = embedded.free_port()
    with Simulator(phone_number_ids=NUMBERS, speed=SPEED) as meta:
        environment = {
            "DATABASE_URL": database_url,
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "WHATSAPP_API_URL": meta.url,
            "SEQUENCE_MIN_DELAY_SECONDS": "1",
            "WEBHOOKS_ALLOW_LOOPBACK": "true",
        }
        with processes.Processes(logs, environment=environment, say=lambda _: None) as parts:
            parts.start(processes.web(port, workers=1), *processes.workers(), processes.beat())
            product = Product(environment["PUBLIC_URL"], meta)
            product.subscribe()
            yield product
            parts.check()
