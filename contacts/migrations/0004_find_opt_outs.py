"""An index for how many opted out since a day."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("contacts", "0003_tell_of_opt_outs_and_deletions")]

    operations = [
        migrations.AddIndex(
            model_name="consentchange",
            index=models.Index(
                condition=models.Q(("opted_in", False)), fields=["organization", "at"], name="consent_change_opt_outs"
            ),
        ),
    ]
