"""How many of the failed were never taken by Meta: counted from the ledger for what is there."""

from django.db import migrations, models

# As date_bin in `quarters`: a message that was never taken counts where it failed.
COUNT = """
INSERT INTO messaging_quartercount AS c
  (organization_id, at, error_code, slot, sent, delivered, read, replied, failed, refused)
SELECT m.organization_id, date_bin('15 minutes', failed_at, '2000-01-01T00:00Z'), coalesce(error_code, -1), 0,
  0, 0, 0, 0, 0, count(*)
FROM messaging_message m
JOIN messaging_dispatch d ON d.id = m.dispatch_id
JOIN organizations_organization o ON o.id = m.organization_id
WHERE m.status = 'failed' AND accepted_at IS NULL AND failed_at IS NOT NULL AND d.kind <> 'test'
GROUP BY 1, 2, 3
ON CONFLICT (organization_id, at, error_code, slot) DO UPDATE SET refused = c.refused + excluded.refused
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0009_find_codes_and_reasons")]

    operations = [
        migrations.AddField("quartercount", "refused", models.BigIntegerField(default=0)),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
