"""Counters of an organization's messages by the quarter of an hour, filled from the ledger."""

import django.db.models.deletion
from django.db import migrations, models

FILL = """
INSERT INTO messaging_quartercount (organization_id, at, error_code, slot, sent, delivered, read, replied, failed)
SELECT m.organization_id, date_bin('15 minutes', coalesce(m.accepted_at, m.failed_at), '2000-01-01T00:00Z'),
  CASE m.status WHEN 'failed' THEN coalesce(m.error_code, -1) ELSE -1 END, 0, count(m.accepted_at),
  count(*) FILTER (WHERE m.status IN ('delivered', 'read')), count(*) FILTER (WHERE m.status = 'read'),
  count(m.replied_at), count(*) FILTER (WHERE m.status = 'failed')
FROM messaging_message m
JOIN messaging_dispatch d ON d.id = m.dispatch_id
JOIN organizations_organization o ON o.id = m.organization_id
WHERE d.kind <> 'test' AND (m.accepted_at IS NOT NULL OR m.status = 'failed')
  AND coalesce(m.accepted_at, m.failed_at) IS NOT NULL
GROUP BY 1, 2, 3
"""


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0007_count_held_and_replied"),
        ("organizations", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="QuarterCount",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "at",
                        "error_code",
                        "slot",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("at", models.DateTimeField()),
                ("error_code", models.IntegerField()),
                ("slot", models.SmallIntegerField()),
                ("sent", models.BigIntegerField(default=0)),
                ("delivered", models.BigIntegerField(default=0)),
                ("read", models.BigIntegerField(default=0)),
                ("replied", models.BigIntegerField(default=0)),
                ("failed", models.BigIntegerField(default=0)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="organizations.organization",
                    ),
                ),
            ],
        ),
        migrations.RunSQL("ALTER TABLE messaging_quartercount SET (fillfactor = 50)", migrations.RunSQL.noop),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
