from typing import Any

from django.db import migrations, models
from django.db.models import F


def remember_stops(apps: Any, schema_editor: Any) -> None:
    contacts = apps.get_model("contacts", "Contact").objects.exclude(marketing_opted_out_at=None)
    contacts.update(marketing_switched_at=F("marketing_opted_out_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("contacts", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="contact",
            name="marketing_switched_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.RunPython(remember_stops, migrations.RunPython.noop),
    ]
