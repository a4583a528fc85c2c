"""The smallest valid row of everything. A test names only what it is about.

Meta's ids begin with x9 here: tests that write one out begin it with x0, and no count of rows leads there.
"""

from datetime import UTC, datetime

import factory
from factory.django import DjangoModelFactory

from broadcasts.models import Broadcast
from contacts.models import Contact, Tag
from kaanha.messaging.models import Dispatch, Message, Status
from kaanha.organizations.models import Membership, Organization, Role, User
from kaanha.webhooks.models import Endpoint, Kind
from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber, Portfolio
from sequences.models import Sequence
from templates_app.models import MessageTemplate

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class OrganizationFactory(DjangoModelFactory[Organization]):
    class Meta:
        model = Organization

    name = factory.Sequence(lambda n: f"Organization {n}")
    slug = factory.Sequence(lambda n: f"organization-{n}")


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User

    email = factory.Sequence(lambda n: f"person{n}@example.test")


class MembershipFactory(DjangoModelFactory[Membership]):
    class Meta:
        model = Membership

    organization = factory.SubFactory(OrganizationFactory)
    user = factory.SubFactory(UserFactory)
    role = Role.OWNER


class MetaAppFactory(DjangoModelFactory[MetaApp]):
    class Meta:
        model = MetaApp

    app_id = factory.Sequence(lambda n: f"49000000000{n:04}")
    secret = "sim_app_secret_0001"


class PortfolioFactory(DjangoModelFactory[Portfolio]):
    class Meta:
        model = Portfolio

    organization = factory.SubFactory(OrganizationFactory)
    meta_id = factory.Sequence(lambda n: f"79000000000{n:04}")


class BusinessAccountFactory(DjangoModelFactory[BusinessAccount]):
    class Meta:
        model = BusinessAccount

    organization = factory.SubFactory(OrganizationFactory)
    app = factory.SubFactory(MetaAppFactory)
    portfolio = factory.SubFactory(PortfolioFactory, organization=factory.SelfAttribute("..organization"))
    waba_id = factory.Sequence(lambda n: f"39000000000{n:04}")
    access_token = "sim-access-token"


class PhoneNumberFactory(DjangoModelFactory[PhoneNumber]):
    class Meta:
        model = PhoneNumber

    organization = factory.SubFactory(OrganizationFactory)
    account = factory.SubFactory(BusinessAccountFactory, organization=factory.SelfAttribute("..organization"))
    phone_number_id = factory.Sequence(lambda n: f"29000000000{n:04}")
    display_number = factory.Sequence(lambda n: f"+1 555 555 {n:04}")


class TagFactory(DjangoModelFactory[Tag]):
    class Meta:
        model = Tag

    organization = factory.SubFactory(OrganizationFactory)
    name = factory.Sequence(lambda n: f"tag {n}")


class ContactFactory(DjangoModelFactory[Contact]):
    """An opted-in contact in India whose number behaves normally at the simulator."""

    class Meta:
        model = Contact

    organization = factory.SubFactory(OrganizationFactory)
    phone = factory.Sequence(lambda n: f"+9198{n:06}01")
    country = "IN"
    name = "Asha Example"
    opted_in = True


class TemplateFactory(DjangoModelFactory[MessageTemplate]):
    class Meta:
        model = MessageTemplate

    organization = factory.SubFactory(OrganizationFactory)
    account = factory.SubFactory(BusinessAccountFactory, organization=factory.SelfAttribute("..organization"))
    meta_id = factory.Sequence(lambda n: f"69000000000{n:04}")
    name = factory.Sequence(lambda n: f"template_{n}")
    language = "en_US"
    category = MessageTemplate.Category.MARKETING
    status = MessageTemplate.Status.APPROVED
    components = factory.LazyFunction(lambda: [{"type": "BODY", "text": "Our sale ends soon."}])


class DispatchFactory(DjangoModelFactory[Dispatch]):
    class Meta:
        model = Dispatch

    organization = factory.SubFactory(OrganizationFactory)
    kind = Dispatch.Kind.BROADCAST
    phone_number = factory.SubFactory(PhoneNumberFactory, organization=factory.SelfAttribute("..organization"))
    lane = Dispatch.Lane.MARKETING


class MessageFactory(DjangoModelFactory[Message]):
    """A queued message that is due since long."""

    class Meta:
        model = Message

    status = Status.QUEUED
    failed_at = factory.LazyAttribute(lambda message: EPOCH if message.status == Status.FAILED else None)
    closed_at = factory.LazyAttribute(
        lambda message: EPOCH if message.status in (Status.SKIPPED, Status.UNCONFIRMED) else None
    )

    organization = factory.SubFactory(OrganizationFactory)
    dispatch = factory.SubFactory(DispatchFactory, organization=factory.SelfAttribute("..organization"))
    contact = factory.SubFactory(ContactFactory, organization=factory.SelfAttribute("..organization"))
    template = factory.SubFactory(
        TemplateFactory,
        organization=factory.SelfAttribute("..organization"),
        account=factory.SelfAttribute("..dispatch.phone_number.account"),
    )
    due_at = factory.LazyFunction(lambda: EPOCH)


class BroadcastFactory(DjangoModelFactory[Broadcast]):
    class Meta:
        model = Broadcast
        skip_postgeneration_save = True

    organization = factory.SubFactory(OrganizationFactory)
    name = factory.Sequence(lambda n: f"Broadcast {n}")
    phone_number = factory.SubFactory(PhoneNumberFactory, organization=factory.SelfAttribute("..organization"))
    template = factory.SubFactory(
        TemplateFactory,
        organization=factory.SelfAttribute("..organization"),
        account=factory.SelfAttribute("..phone_number.account"),
    )

    @factory.post_generation
    def tags(self, create, tags):
        if tags:
            self.tags.set(tags)


class SequenceFactory(DjangoModelFactory[Sequence]):
    """A draft that is started by hand, without a step."""

    class Meta:
        model = Sequence

    organization = factory.SubFactory(OrganizationFactory)
    name = factory.Sequence(lambda n: f"Sequence {n}")
    phone_number = factory.SubFactory(PhoneNumberFactory, organization=factory.SelfAttribute("..organization"))


class EndpointFactory(DjangoModelFactory[Endpoint]):
    """An address that hears of everything, and where nobody is."""

    class Meta:
        model = Endpoint

    organization = factory.SubFactory(OrganizationFactory)
    url = "https://hooks.example.test/kaanha"
    kinds = factory.LazyFunction(lambda: list(Kind.values))
    secret = "whsec_sample"
