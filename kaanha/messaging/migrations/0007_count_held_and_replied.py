"""A broadcast's held and answered messages, counted without reading the others."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("contacts", "0003_tell_of_opt_outs_and_deletions"),
        ("messaging", "0006_list_and_test_messages"),
        ("organizations", "0004_accounts_of_members_stay"),
        ("templates_app", "0001_initial"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="message",
            index=models.Index(condition=models.Q(("held_by_meta", True)), fields=["dispatch"], name="message_held"),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("replied_at__isnull", False)), fields=["dispatch"], name="message_replied"
            ),
        ),
    ]
