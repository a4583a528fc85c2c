"""Search by part of a name, sort by name and list the deleted without reading everybody."""

import contacts.models
import django.contrib.postgres.indexes
from django.db import migrations, models

# Arrays grow in place in a variable: a query over generate_series takes ten times as long.
PIECES = """
CREATE FUNCTION contacts_pieces(words text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  folded text := upper(words);
  found text[] := '{}';
BEGIN
  FOR place IN 1 .. length(folded) - 2 LOOP
    found := found || substr(folded, place, 3);
  END LOOP;
  RETURN found;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("contacts", "0003_tell_of_opt_outs_and_deletions"), ("organizations", "0001_initial")]

    operations = [
        migrations.RunSQL(sql=PIECES, reverse_sql="DROP FUNCTION contacts_pieces(text)"),
        migrations.AddIndex(
            model_name="contact",
            index=models.Index(
                condition=models.Q(("deleted_at", None)),
                fields=["organization", "name", "-id"],
                name="contact_by_name",
            ),
        ),
        migrations.AddIndex(
            model_name="contact",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", False)),
                fields=["organization", "-id"],
                name="contact_deleted",
            ),
        ),
        migrations.AddIndex(
            model_name="contact",
            index=django.contrib.postgres.indexes.GinIndex(contacts.models.Pieces("name"), name="contact_name_pieces"),
        ),
    ]
