"""Those who left for a reason, in the order of contacts, in which they are listed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("contacts", "0009_count_contacts"),
        ("organizations", "0008_name_members_and_api_keys"),
        ("sequences", "0004_move_in_the_background"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="enrollment",
            name="enrollment_exited",
        ),
        migrations.AddIndex(
            model_name="enrollment",
            index=models.Index(
                condition=models.Q(("status", "exited")),
                fields=["sequence", "exit_reason", "contact"],
                name="enrollment_left",
            ),
        ),
    ]
