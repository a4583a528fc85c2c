"""`make lint` fails for a known vulnerability, and not for a network that isn't there."""

import json
import subprocess

import pytest

from kaanha import dependency_audit

FINE = {"name": "django", "version": "5.2.19", "vulns": []}
SKIPPED = {"name": "celery", "skip_reason": "Dependency not found on PyPI and could not be audited: celery (5.7.0)"}
FAULT = {"id": "PYSEC-2026-1", "fix_versions": ["2.34.1", "3.0"], "description": "…"}
ILL = {"name": "requests", "version": "2.34.0", "vulns": [FAULT]}


@pytest.fixture
def says(monkeypatch):
    """says(…) is what pip-audit prints: text, or dependencies as JSON; or an exception that it ends in."""

    def say(answer, *, stderr=""):
        def run(command, **options):
            if isinstance(answer, Exception):
                raise answer
            said = answer if isinstance(answer, str) else json.dumps({"dependencies": answer, "fixes": []})
            return subprocess.CompletedProcess(command, 1, said, stderr)

        monkeypatch.setattr(subprocess, "run", run)

    return say


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ([FINE], 0, "Audited 1 dependencies: 0 known vulnerabilities."),
        ([FINE, SKIPPED], 0, "Audited 1 dependencies: 0 known vulnerabilities, 1 could not be asked for."),
        ([SKIPPED, SKIPPED], 0, "Dependencies are not audited: no advisory service can be reached from here."),
        (subprocess.TimeoutExpired("pip-audit", 30), 0, "Dependencies are not audited: no answer within 30 seconds."),
        ("", 0, "Dependencies are not audited: pip-audit said nothing."),
        ("[]", 0, "Dependencies are not audited: pip-audit said nothing."),
    ],
)
def test_what_is_said_in_one_line(says, capsys, answer, code, words):
    says(answer)

    assert dependency_audit.main() == code
    assert capsys.readouterr().out == f"{words}\n"


def test_a_vulnerability_is_a_failure_with_its_remedy(says, capsys):
    says([FINE, ILL])

    assert dependency_audit.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "requests 2.34.0: PYSEC-2026-1. Mended in: 2.34.1, 3.0. Then: make lock",
        "Audited 2 dependencies: 1 known vulnerabilities.",
    ]


def test_a_network_that_is_away_is_no_failure(says, capsys):
    says("", stderr="…\nERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\n")

    assert dependency_audit.main() == 0
    assert "Could not connect to PyPI's vulnerability feed." in capsys.readouterr().out


def test_the_lock_is_there():
    assert "django==" in dependency_audit.LOCK.read_text().lower()
