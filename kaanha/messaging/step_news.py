"""What the sequences are told of their messages: a row for each whose fate changed, or that was answered.

Written in the transaction of the change, before its counters, and read up by the sequences. A new row is nobody else's
yet: writing it waits for nobody.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection


def tell(messages: Collection[int]) -> None:
    """Append news of those of `messages` that a step asked for. One statement, none for no messages."""
    if messages:
        with connection.cursor() as cursor:
            cursor.execute(_TELL, [list(messages)])


_TELL = """
INSERT INTO messaging_stepnews (message_id)
SELECT m.id FROM messaging_message m JOIN messaging_dispatch d ON d.id = m.dispatch_id AND d.kind = 'step'
WHERE m.id = ANY(%s) ORDER BY m.id
"""
