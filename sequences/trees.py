"""The tree of a sequence's steps: everything that others need of it, in one place.

read ─▶ JSON ─parse─▶ nodes ─▶ flatten, problems, diff, words, due
         ▲              │
         └───to_json────┘
"""

from sequences.tree_diff import Change, ChangeKind, diff
from sequences.tree_names import names
from sequences.tree_nodes import (
    EVERY_DAY,
    NUMERIC,
    OPERATORS,
    STATUSES,
    UNITS,
    WEEKDAYS,
    WHEN_CAPPED,
    WITHOUT_VALUE,
    Condition,
    Delay,
    Field,
    Flat,
    HasTag,
    Kind,
    Message,
    Node,
    Reached,
    Until,
    earlier_messages,
    flatten,
    number,
    to_json,
)
from sequences.tree_problems import Problem, problems
from sequences.tree_reading import parse, read
from sequences.tree_times import due
from sequences.tree_words import span, words

__all__ = [
    "EVERY_DAY",
    "NUMERIC",
    "OPERATORS",
    "STATUSES",
    "UNITS",
    "WEEKDAYS",
    "WHEN_CAPPED",
    "WITHOUT_VALUE",
    "Change",
    "ChangeKind",
    "Condition",
    "Delay",
    "Field",
    "Flat",
    "HasTag",
    "Kind",
    "Message",
    "Node",
    "Problem",
    "Reached",
    "Until",
    "diff",
    "due",
    "earlier_messages",
    "flatten",
    "names",
    "number",
    "parse",
    "problems",
    "read",
    "span",
    "to_json",
    "words",
]
