"""The headers of a list in the admin, made once for it.

Unfold makes all of them anew for every row, each time with a rendered checkbox and three addresses a column, to write
the column's name beside the cell: a quarter of the time of a list of fifty rows. Nothing of it depends on the row, and
Unfold has no seam for it but the function itself.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.main import ChangeList
from unfold.templatetags import unfold_list

Headers = list[dict[str, Any]]

_made = unfold_list.result_headers


def make_once() -> None:
    """Have Unfold use `of` in every list. Once, at the start."""
    unfold_list.result_headers = of


def of(changes: ChangeList) -> Headers:
    """The headers of this list. Kept on the list itself, which belongs to one request and is gone with it."""
    kept: Headers | None = vars(changes).get("kaanha_headers")
    if kept is None:
        kept = vars(changes)["kaanha_headers"] = list(_made(changes))
    return kept
