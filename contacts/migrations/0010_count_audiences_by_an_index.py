"""What decides whether a contact can be written to stands in the index by which audiences are counted and frozen.

In rising order: new contacts are appended to it, and leave full pages behind. The old one goes last, for that locks out
whoever reads contacts until the end.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("contacts", "0009_count_contacts")]

    operations = [
        migrations.AddIndex(
            model_name="contact",
            index=models.Index(
                condition=models.Q(("deleted_at", None)),
                fields=["organization", "id"],
                include=["opted_in", "phone", "marketing_opted_out_at", "country", "name"],
                name="contact_audience",
            ),
        ),
        migrations.RemoveIndex(model_name="contact", name="contact_newest"),
    ]
