"""Answers that prove nothing: never a second request, and the callback says what became of it."""

import pytest

from tests.scenarios import verdict

# Accepted, and then: no id, HTML 500, reset, no answer, half an answer.
ACCEPTED = (71, 75, 77, 78, 79)
# Not accepted, and it can't be told from the above: HTML 500, reset.
NOT_ACCEPTED = (74, 76)
PLAIN = range(1, 15)
EACH = 8

pytestmark = pytest.mark.xdist_group("scenarios")


def test_an_ambiguous_answer_is_never_followed_by_a_second_request(machine):
    """With unknown answers going back to the queue, those whose answer had got lost were sent to twice."""
    machine.begin(throughput=200, cards=True)
    endings = (*ACCEPTED, *NOT_ACCEPTED, *PLAIN)
    broadcast = machine.launch(people=EACH * len(endings), endings=endings)

    machine.finish(broadcast)

    result = verdict.of(machine, broadcast)
    assert result.faults == []
    assert result.statuses["unconfirmed"] == EACH * len(NOT_ACCEPTED)
    assert by_ending(machine, broadcast, ACCEPTED) == {"delivered": EACH * len(ACCEPTED)}
    assert by_ending(machine, broadcast, NOT_ACCEPTED) == {"unconfirmed": EACH * len(NOT_ACCEPTED)}
    assert machine.value(HIGHEST_ATTEMPT, list(broadcast.people)) == 1
    assert sorted(posted(machine)) == sorted(set(posted(machine)))


def by_ending(machine, broadcast, endings):
    """{status: people} of those whose number ends so."""
    return dict(machine.rows(BY_ENDING, list(broadcast.people), [f"{ending:02}" for ending in endings]))


def posted(machine):
    """To whom the last requests went, each as often as there was one."""
    requests = machine.ask("requests", limit=EACH * 21)["data"]
    return [request["to"] for request in requests if request["to"]]


HIGHEST_ATTEMPT = "SELECT max(attempt) FROM messaging_message WHERE contact_id = ANY(%s)"
BY_ENDING = """
SELECT status, count(*)::int FROM messaging_message m JOIN contacts_contact c ON c.id = m.contact_id
WHERE c.id = ANY(%s) AND right(phone, 2) = ANY(%s) GROUP BY 1
"""
