from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("contacts", "0002_remember_marketing_switches"),
    ]

    operations = [
        migrations.AlterField(
            model_name="contactevent",
            name="kind",
            field=models.CharField(
                choices=[
                    ("created", "Contact created"),
                    ("tag_added", "Tag added"),
                    ("opted_out", "Opted out"),
                    ("deleted", "Contact deleted"),
                ],
                max_length=10,
            ),
        ),
    ]
