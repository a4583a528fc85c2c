"""The safety stop: what goes wrong for most of the last recipients is not about them, so it stops."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kaanha.messaging.fates import RETRIED
from kaanha.messaging.settling import Holds, Result
from kaanha.whatsapp.cloud_api.client import Refused, Unknown

REASON = "safety"
WATCHED, LEAST = 100, 40  # the last answers of a dispatch, and how many of them there must be
ABNORMAL = 0.5  # the share of them that stops it
REMEMBERED = 1_000  # dispatches; a request of the API is one, too


@dataclass(slots=True)
class _Seen:
    unknown: deque[bool] = field(default_factory=lambda: deque(maxlen=WATCHED))
    refused: deque[bool] = field(default_factory=lambda: deque(maxlen=WATCHED))


class Watch:
    """The last answers of each dispatch in this process."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, _Seen] = OrderedDict()

    def see(self, results: Sequence[Result]) -> Holds:
        """Take note of these answers; the dispatches to hold because of them, with the reason in words."""
        holds: Holds = {}
        for result in results:
            dispatch = result.envelope.dispatch_id
            seen = self._of(dispatch)
            seen.unknown.append(isinstance(result.answer, Unknown))
            seen.refused.append(_is_final(result))
            for answers, words in ((seen.unknown, _UNKNOWN), (seen.refused, _REFUSED)):
                if len(answers) >= LEAST and sum(answers) >= ABNORMAL * len(answers):
                    holds[dispatch] = (REASON, words.format(bad=sum(answers), of=len(answers)))
        for dispatch in holds:
            del self._seen[dispatch]
        return holds

    def _of(self, dispatch: int) -> _Seen:
        """What is remembered of a dispatch; the one that was quiet for longest makes room."""
        seen = self._seen.setdefault(dispatch, _Seen())
        self._seen.move_to_end(dispatch)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return seen


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
