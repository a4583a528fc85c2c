"""Indexes for how many opted out since a day, and for contacts by the beginning of their name."""

from django.db import migrations, models
from django.db.models.functions import Collate, Lower


class Migration(migrations.Migration):
    dependencies = [("contacts", "0004_find_and_sort_names")]

    operations = [
        migrations.AddIndex(
            model_name="consentchange",
            index=models.Index(
                condition=models.Q(("opted_in", False)), fields=["organization", "at"], name="consent_change_opt_outs"
            ),
        ),
        migrations.AddIndex(
            model_name="contact",
            index=models.Index(
                models.F("organization"),
                Collate(Lower("name"), "C"),
                condition=models.Q(("deleted_at", None)),
                name="contact_name_begins",
            ),
        ),
    ]
