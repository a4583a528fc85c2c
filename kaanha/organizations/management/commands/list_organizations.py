"""`manage.py list_organizations`: who is on this installation."""

from typing import Any

from kaanha.lib.commands import KaanhaCommand
from kaanha.organizations.models import Organization


class Command(KaanhaCommand):
    help = "List the organizations: the name in commands, the public id, the name and the timezone."

    def perform(self, **_: Any) -> list[Any]:
        return [
            {"organization": one.slug, "id": one.public_id, "name": one.name, "timezone": one.timezone}
            for one in Organization.objects.order_by("slug")
        ]

    def tell(self, result: Any) -> None:
        for one in result:
            self.stdout.write(f"{one['organization']:<30} {one['id']}  {one['name']}, {one['timezone']}")
        if not result:
            self.stdout.write("None yet. Create one with: python manage.py create_organization NAME")
