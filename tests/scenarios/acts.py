"""The operator's hand: a program on the machine's own database that does one act per line of JSON it reads.

Started once per machine, since a Django process takes a second and a half to begin.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import django
from django.utils import timezone


def command(*arguments: str) -> Any:
    """What a command of manage.py says in JSON."""
    from django.core.management import call_command

    printed = StringIO()
    call_command(*arguments, "--json", stdout=printed)
    return json.loads(printed.getvalue())


def act(name: str, broadcast: int) -> dict[str, Any]:
    """Pause, resume or cancel a broadcast; the moment before it began and the one after it had committed."""
    from broadcasts import launch
    from broadcasts.models import Broadcast

    begun = timezone.now()
    getattr(launch, name)(Broadcast.objects.get(pk=broadcast), now=begun)
    return {"begun": begun.timestamp(), "committed": timezone.now().timestamp()}


def share_templates(giver: str, taker: str) -> int:
    """Give `taker`'s account the templates of `giver`'s; the simulator has one account for both."""
    from kaanha.organizations.models import Organization
    from kaanha.whatsapp.models import BusinessAccount
    from templates_app.models import MessageTemplate

    organization = Organization.named(taker)
    account = BusinessAccount.objects.of(organization).get()
    templates = list(MessageTemplate.objects.of(Organization.named(giver)))
    for template in templates:
        template.pk, template.organization, template.account = None, organization, account
        template.meta_id = f"{template.meta_id}{organization.pk}"
    return len(MessageTemplate.objects.bulk_create(templates))


def single(organization: str, contact: int, template: str, phone_number_id: str) -> int:
    """Ask for one utility message, as a request of the API would; the key of its dispatch."""
    from django.db import transaction

    from kaanha.messaging import counting
    from kaanha.messaging.models import Dispatch, Message
    from kaanha.organizations.models import Organization
    from kaanha.whatsapp.models import PhoneNumber
    from templates_app.models import MessageTemplate

    owner = Organization.named(organization)
    with transaction.atomic():
        dispatch = Dispatch.objects.create(
            organization=owner,
            kind=Dispatch.Kind.API,
            phone_number=PhoneNumber.sending_for(owner, phone_number_id),
            lane=Dispatch.Lane.UTILITY,
            variables={"body.1": {"text": "Asha"}, "body.2": {"text": "A-1001"}},
        )
        Message.objects.create(
            organization=owner,
            dispatch=dispatch,
            contact_id=contact,
            template=MessageTemplate.named(owner, template, "en_US"),
            due_at=timezone.now(),
        )
        difference = counting.Difference()
        difference.joined(dispatch.pk, 1)
        difference.write()
    return int(dispatch.pk)


def opt_out(contacts: list[int]) -> int:
    """Opt these contacts out, as an operator does; for how many that was news."""
    from contacts import consent
    from contacts.models import ConsentSource

    return len(consent.opt_out(contacts, source=ConsentSource.OPERATOR, proof="sample", at=timezone.now()))


def listen(organization: str, *kinds: str) -> int:
    """Have an endpoint hear of these events, at an address where nobody is."""
    from kaanha.organizations.models import Organization
    from kaanha.webhooks.models import Endpoint

    owner = Organization.objects.get(slug=organization)
    told = {"url": "https://hooks.example.test/kaanha", "kinds": list(kinds)}
    endpoint, _ = Endpoint.objects.get_or_create(
        organization=owner, **told, defaults={"secret": Endpoint.new_secret(), "batched": True}
    )
    return int(endpoint.pk)


ACTS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (command, act, share_templates, single, opt_out, listen)
}


def main() -> None:
    """Answer each line {"do", "args", "kwargs"} with {"done"} or {"error"}."""
    django.setup()
    from django.db import connections

    answers = sys.stdout
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                answer = {"done": ACTS[asked["do"]](*asked["args"], **asked["kwargs"])}
        except Exception as error:  # noqa: BLE001 — whatever it is, the asker raises it
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            connections.close_all()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
