"""A contact knows its cap. Nothing changes in the database."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("contacts", "0010_count_audiences_by_an_index"), ("messaging", "0010_count_the_refused")]

    operations = [
        migrations.AlterField(
            model_name="marketingcap",
            name="contact",
            field=models.OneToOneField(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                primary_key=True,
                related_name="marketing_cap",
                serialize=False,
                to="contacts.contact",
            ),
        ),
    ]
