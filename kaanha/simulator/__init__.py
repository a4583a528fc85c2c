"""A stand-in for Meta's WhatsApp Cloud API, to rehearse with and to test against.

It is written from Meta's documentation, shares no code with the client, and sends nothing to anybody. Start it with
`manage.py simulate_cloud_api` or `python -m kaanha.simulator`; in a test, `with Simulator() as meta`. Its page at
/simulator shows what it received.

Test cards. The last two digits of a recipient, in any country, decide what happens; sample numbers such as
+44 7700 900026, +49 30 23125 026 or +33 6 39 98 00 26 are all undeliverable:

    26  accepted, then failed 131026: not on WhatsApp
    29  the first answer is HTTP 429 with 130429, then it works
    31  sent, then failed 131000
    49  accepted, then failed 131049 if it is marketing: enough marketing for this person
    50  accepted, then failed 131050 if it is marketing, until the person resumes marketing
    56  the first answer is 131056, pair rate, then it works
    60  read fast
    61  delivered, never read
    62  stays sent: never delivered
    63  read without a delivered status
    64  failed 131026, and delivered later all the same
    65  held for quality assessment, then released and read
    70  the first two answers are HTTP 500 with 131000, then it works
    71  accepted and delivered, but the 200 carries no message id
    72  accepted, then failed 130472 if it is marketing: part of an experiment
    73  the first two answers are HTTP 503 with 133004, then it works
    74  the first answer is an HTML page with HTTP 500 and nothing is accepted, then it works
    75  accepted and delivered, but the answer is an HTML page with HTTP 500
    76  the connection is reset before anything is accepted, once, then it works
    77  accepted and delivered, but the connection is reset
    78  accepted and delivered, but no answer comes until the client gives up
    79  accepted and delivered, but the JSON of the 200 is cut in half
    80  reads, and replies STOP
    81  reads, and replies quoting the message
    82  reads, and writes without quoting
    83  reads, and taps the first quick reply; replies quoting where there is none
    84  reads, and stops marketing with WhatsApp's own switch
    90  accepted, then silence

"First answer" counts for each message anew. Everybody else behaves by a profile that their number and the seed decide:
most messages are delivered, six in ten read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaanha.simulator.running import Simulator as Simulator


def __getattr__(name: str) -> Any:
    """Simulator, imported when it is asked for: every manage.py command imports this package, few need the server."""
    if name == "Simulator":
        from kaanha.simulator.running import Simulator

        return Simulator
    raise AttributeError(name)
