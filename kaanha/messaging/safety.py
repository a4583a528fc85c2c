"""The safety stop: what goes wrong for most of the last recipients is not about them, so it stops."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from kaanha.messaging.fates import RETRIED
from kaanha.messaging.settling import Holds, Result
from kaanha.whatsapp.cloud_api.client import Refused, Unknown

REASON = "safety"
WATCHED, LEAST = 100, 40  # the last answers of a dispatch, and how many of them there must be
ABNORMAL = 0.5  # the share of them that stops it


class Watch:
    """The last answers of each dispatch in this process."""

    def __init__(self) -> None:
        self._unknown: dict[int, deque[bool]] = defaultdict(lambda: deque(maxlen=WATCHED))
        self._refused: dict[int, deque[bool]] = defaultdict(lambda: deque(maxlen=WATCHED))

    def see(self, results: Sequence[Result]) -> Holds:
        """Take note of these answers; the dispatches to hold because of them, with the reason in words."""
        holds: Holds = {}
        for result in results:
            dispatch = result.envelope.dispatch_id
            self._unknown[dispatch].append(isinstance(result.answer, Unknown))
            self._refused[dispatch].append(_is_final(result))
            for seen, words in ((self._unknown[dispatch], _UNKNOWN), (self._refused[dispatch], _REFUSED)):
                if len(seen) >= LEAST and sum(seen) >= ABNORMAL * len(seen):
                    holds[dispatch] = (REASON, words.format(bad=sum(seen), of=len(seen)))
        for dispatch in holds:
            self._unknown.pop(dispatch), self._refused.pop(dispatch)
        return holds


def _is_final(result: Result) -> bool:
    return isinstance(result.answer, Refused) and result.answer.verdict.error_class not in RETRIED


_UNKNOWN = (
    "Of the last {of} requests {bad} got no clear answer, so nobody knows yet whether Meta has those messages. "
    "Resume it when Meta or the network answers again."
)
_REFUSED = (
    "Meta refused {bad} of the last {of} messages for good. Look at the failures, repair what they have in common, "
    "and resume it."
)
