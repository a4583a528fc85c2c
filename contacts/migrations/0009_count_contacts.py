"""How many contacts an organization has, noted by the database as they come and go."""

from django.db import migrations, models

ADDED = """
CREATE FUNCTION contacts_count_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO contacts_contactcount (organization_id, contacts)
  SELECT organization_id, count(*) FROM added WHERE deleted_at IS NULL GROUP BY organization_id;
  RETURN NULL;
END
$$;
CREATE TRIGGER contacts_count_added AFTER INSERT ON contacts_contact REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION contacts_count_added()
"""
GONE = """
CREATE FUNCTION contacts_count_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO contacts_contactcount (organization_id, contacts)
  SELECT organization_id, -count(*) FROM gone WHERE deleted_at IS NULL GROUP BY organization_id;
  RETURN NULL;
END
$$;
CREATE TRIGGER contacts_count_gone AFTER DELETE ON contacts_contact REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION contacts_count_gone()
"""
# Row by row: a trigger of one column can't see all rows of a statement, and the other columns change all the time.
SWITCHED = """
CREATE FUNCTION contacts_count_switched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO contacts_contactcount (organization_id, contacts)
  VALUES (NEW.organization_id, CASE WHEN NEW.deleted_at IS NULL THEN 1 ELSE -1 END);
  RETURN NULL;
END
$$;
CREATE TRIGGER contacts_count_switched AFTER UPDATE OF deleted_at ON contacts_contact FOR EACH ROW
WHEN ((OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)) EXECUTE FUNCTION contacts_count_switched()
"""
FILL = """
INSERT INTO contacts_contactcount (organization_id, contacts)
SELECT organization_id, count(*) FROM contacts_contact WHERE deleted_at IS NULL GROUP BY organization_id
"""


def _dropped(name: str) -> str:
    return f"DROP TRIGGER {name} ON contacts_contact; DROP FUNCTION {name}()"


class Migration(migrations.Migration):
    dependencies = [("contacts", "0008_know_how_names_are_spelled")]

    operations = [
        migrations.CreateModel(
            name="ContactCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organization_id", models.BigIntegerField()),
                ("contacts", models.BigIntegerField()),
            ],
            options={
                "indexes": [models.Index(fields=["organization_id"], name="contact_count_organization")],
            },
        ),
        migrations.RunSQL(sql=ADDED, reverse_sql=_dropped("contacts_count_added")),
        migrations.RunSQL(sql=GONE, reverse_sql=_dropped("contacts_count_gone")),
        migrations.RunSQL(sql=SWITCHED, reverse_sql=_dropped("contacts_count_switched")),
        migrations.RunSQL(sql=FILL, reverse_sql=migrations.RunSQL.noop),
    ]
