"""Statistics of the letters in names: how common a part of a name is decides how it is looked for.

Without them PostgreSQL takes every part for rare, and reads and sorts all of its holders for the newest fifty.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("contacts", "0007_change_in_bulk")]

    operations = [
        migrations.RunSQL(
            sql=[
                "CREATE STATISTICS contact_name_letters ON (upper(name::text)) FROM contacts_contact",
                "ANALYZE contacts_contact",
            ],
            reverse_sql="DROP STATISTICS contact_name_letters",
        ),
    ]
