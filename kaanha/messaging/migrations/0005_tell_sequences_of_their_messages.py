from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0004_find_unmatched_receipts_to_drop"),
    ]

    operations = [
        migrations.CreateModel(
            name="StepNews",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("message_id", models.BigIntegerField()),
            ],
            options={
                "verbose_name_plural": "step news",
            },
        ),
    ]
