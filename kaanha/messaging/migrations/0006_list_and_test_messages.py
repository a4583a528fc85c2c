"""Indexes for lists and recipients in the API, and messages that are tests."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("contacts", "0003_tell_of_opt_outs_and_deletions"),
        ("messaging", "0005_tell_sequences_of_their_messages"),
        ("organizations", "0001_initial"),
        ("templates_app", "0001_initial"),
    ]

    operations = [
        migrations.AlterField(
            model_name="dispatch",
            name="kind",
            field=models.CharField(
                choices=[
                    ("broadcast", "Broadcast"),
                    ("step", "Sequence step"),
                    ("api", "API request"),
                    ("test", "Test"),
                ],
                max_length=10,
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["organization", "id"], name="message_newest"),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("failed_at__isnull", False)), fields=["dispatch", "contact"], name="message_failed"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("closed_at__isnull", False)), fields=["dispatch", "contact"], name="message_closed"
            ),
        ),
    ]
