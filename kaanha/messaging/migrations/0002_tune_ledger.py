"""Room in every page of the ledger, so that receipts update rows in place, and a vacuum that keeps up with a blast."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql=[
                "ALTER TABLE messaging_message SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,"
                " autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02)",
                "ALTER TABLE messaging_dispatchcount SET (fillfactor = 50)",
                "ALTER TABLE messaging_marketingcap SET (fillfactor = 80)",
            ],
            reverse_sql=migrations.RunSQL.noop,
        )
    ]
