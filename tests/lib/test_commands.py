"""One sentence on refusal, exit code 2, and the same data as JSON."""

import json
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import OperationalError, ProgrammingError

from kaanha.lib.commands import KaanhaCommand, text_of
from kaanha.lib.errors import Refusal


class Answering(KaanhaCommand):
    requires_system_checks = ()
    result: object = {"organization": "shop", "warnings": ["one", "two"]}
    error: BaseException | None = None

    def perform(self, *args, **options):
        if self.error:
            raise self.error
        return self.result


class WithSubcommands(KaanhaCommand):
    requires_system_checks = ()

    def add_arguments(self, parser):
        parser.add_subparsers(dest="verb", required=True).add_parser("send").add_argument("name")

    def perform(self, *, verb, name, **options):
        return {"verb": verb, "name": name}


class DatabaseTroubleError(Exception):
    def __init__(self, sqlstate):
        self.sqlstate = sqlstate


def run(command, *argv):
    """The command as the shell runs it: its exit code, stdout and stderr."""
    command.stdout._out, command.stderr._out = out, err = StringIO(), StringIO()
    code: object = 0
    try:
        command.run_from_argv(["manage.py", "example", *argv])
    except SystemExit as stopped:
        code = stopped.code
    return code, out.getvalue(), err.getvalue()


def test_bytes_that_are_no_text_are_refused_before_anything_is_done():
    code, out, err = run(WithSubcommands(), "--json", "send", "spr\udcffing")

    assert (code, out) == (2, "")
    assert err == "The name 'spr\\udcffing' holds bytes that are not UTF-8. Type it again.\n"


def test_a_result_is_told_line_by_line():
    assert run(Answering()) == (0, "organization: shop\nwarnings: one, two\n", "")


def test_json_is_one_line():
    code, out, err = run(Answering(), "--json")

    assert (code, json.loads(out), out.count("\n"), err) == (0, Answering.result, 1, "")


@pytest.mark.parametrize(
    "argv", [["--json", "send", "spring"], ["send", "--json", "spring"], ["send", "spring", "--json"]]
)
def test_json_may_stand_before_and_after_a_subcommand(argv):
    code, out, _ = run(WithSubcommands(), *argv)

    assert (code, json.loads(out)) == (0, {"verb": "send", "name": "spring"})


def test_without_json_a_subcommand_prints_for_people():
    assert run(WithSubcommands(), "send", "spring")[1] == "verb: send\nname: spring\n"


def test_a_refusal_is_its_sentence_alone_and_exit_code_2():
    command = Answering()
    command.error = Refusal("There is no such thing.")

    assert run(command, "--json") == (2, "", "There is no such thing.\n")


def test_a_refusal_reaches_whoever_calls_the_command_from_python():
    command = Answering()
    command.error = Refusal("There is no such thing.")

    with pytest.raises(Refusal, match="no such thing"):
        call_command(command)


def test_a_usage_error_exits_with_2(capsys):
    assert run(Answering(), "--nonsense")[0] == 2
    assert "unrecognized arguments: --nonsense" in capsys.readouterr().err


def test_ctrl_c_ends_without_a_traceback():
    command = Answering()
    command.error = KeyboardInterrupt()

    assert run(command) == (130, "", "")


@pytest.mark.parametrize("sqlstate", [None, "57P01", "08006", "3D000"])
def test_a_database_that_is_away_is_said_in_a_sentence(sqlstate):
    command = Answering()
    command.error = OperationalError("connection refused\nIs the server running?")
    command.error.__cause__ = DatabaseTroubleError(sqlstate)

    code, _, err = run(command)

    assert code == 2
    assert err.startswith("PostgreSQL can't be reached at ")
    assert err.endswith("start it with: python manage.py servers start (connection refused)\n")


def test_a_database_without_tables_says_how_to_make_them():
    command = Answering()
    command.error = ProgrammingError('relation "x" does not exist')
    command.error.__cause__ = DatabaseTroubleError("42P01")

    assert run(command)[2] == "The database has no tables yet; create them with: python manage.py migrate\n"


def test_a_deadlock_is_not_mistaken_for_a_missing_server():
    command = Answering()
    command.error = OperationalError("deadlock detected")
    command.error.__cause__ = DatabaseTroubleError("40P01")

    with pytest.raises(OperationalError, match="deadlock"):
        run(command)


def test_a_text_comes_from_a_file_or_from_standard_input(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfPun\xc4\x93")
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(file.read_bytes()), encoding="latin-1"))

    assert (text_of(file, limit=8), text_of(Path("-"), limit=8)) == ("Pun\u0113", "Pun\u0113")


@pytest.mark.parametrize(
    ("content", "code"), [(b"\xff\xfe", "file_unreadable"), (b"123456789", "file_too_large"), (None, "file_unreadable")]
)
def test_what_is_no_text_is_refused(tmp_path, content, code):
    file = tmp_path / "a.txt"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(Refusal) as refusal:
        text_of(file, limit=8)

    assert (refusal.value.code, str(refusal.value).startswith(f"{file} ")) == (code, True)


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(Refusal, match="can't be read as text"):
        text_of(tmp_path, limit=8)
