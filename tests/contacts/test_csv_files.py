import pytest

from contacts import csv_files
from contacts.csv_files import open_csv
from kaanha.lib.errors import Refusal

HEADER = "phone,name,email,tags,optedIn\n"


@pytest.fixture
def written(tmp_path):
    """Writes a file and opens it for reading as CSV."""

    def write(content: str | bytes, *, column="phone", **options):
        path = tmp_path / "people.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_csv(path, column=column, **options)

    return write


def rows(file) -> list[tuple]:
    return [(row.line, row.cells, row.problem) for row, _ in file.rows()]


def cells(file) -> list[list[str]]:
    return [row.cells for row, _ in file.rows()]


def refusal(written, content, **options) -> str:
    with pytest.raises(Refusal) as refused:
        written(content, **options)
    return str(refused.value)


class TestRows:
    def test_rows_come_with_their_physical_lines_and_blank_ones_are_left_out(self, written):
        file = written('\nphone,name\n\n+1,Asha\n ,  \n,\n+2,"Two\nlines"\r\n+3,Last')

        assert file.header == ["phone", "name"]
        assert rows(file) == [(4, ["+1", "Asha"], None), (7, ["+2", "Two\nlines"], None), (9, ["+3", "Last"], None)]

    def test_a_header_alone_has_no_rows(self, written):
        assert rows(written(HEADER)) == []

    def test_quoted_cells_hold_delimiters_and_doubled_quotes(self, written):
        file = written('phone,name\n+1,"a, ""b"""\n+2, "c, d"\n')

        assert cells(file) == [["+1", 'a, "b"'], ["+2", "c, d"]]

    @pytest.mark.parametrize(
        ("row", "words"),
        [
            ("+9", "The row has 1 cell where the header has 2. Leave no cell out"),
            ("+9,a,b", "The row has 3 cells where the header has 2. Put a cell that holds the delimiter in quotes"),
            ("+9,a,", "The row has 3 cells where the header has 2."),
            ('+9,"a"b', "The quotes in this row don't match."),
            ('+9,"a" b "c"', "The quotes in this row don't match."),
        ],
    )
    def test_a_bad_row_costs_only_itself(self, written, row, words):
        found = rows(written(f"phone,name\n+1,a\n{row}\n+2,b\n"))

        assert [found[0], found[2]] == [(2, ["+1", "a"], None), (4, ["+2", "b"], None)]
        assert found[1][0] == 3
        assert found[1][2].startswith(words)

    def test_a_forgotten_quote_costs_only_its_row_whatever_follows(self, written):
        others = "".join(f'+{n},"a, {n}"\n' for n in range(2, 200))
        found = rows(written(f'phone,name\n+1,"open\n{others}'))

        assert found[0][:2] == (2, ['+1,"open'])
        assert "never closes" in found[0][2]
        assert found[1:] == [(n + 1, [f"+{n}", f"a, {n}"], None) for n in range(2, 200)]

    def test_two_forgotten_quotes_do_not_swallow_what_is_between_them(self, written):
        found = rows(written('phone,name\n+1,"open\n+2,b\n+3,"open\n+4,d\n'))

        assert [(line, problem is None) for line, _, problem in found] == [(2, False), (3, True), (4, False), (5, True)]

    def test_a_quote_that_opens_in_the_last_row_is_found(self, written):
        found = rows(written('phone,name\n+1,a\n+2,"b'))

        assert found[0][2] is None
        assert "never closes" in found[1][2]

    def test_an_endless_line_is_rejected_without_being_read_whole(self, written):
        found = rows(written(f"phone,name\n+1,{'x' * 300_000}\n+2,b\n"))

        assert found == [
            (2, [f"+1,{'x' * 197}"], "The row has more than 100,000 letters."),
            (3, ["+2", "b"], None),
        ]

    def test_a_unicode_line_separator_is_no_line(self, written):
        assert rows(written("phone,name\n+1,a\u2028b\n")) == [(2, ["+1", "a\u2028b"], None)]


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_what_the_bytes_tell_for_certain_is_read(self, written, encoding):
        file = written("phone,name\n+1,Zoë 李\n".encode(encoding))

        assert (file.encoding, file.header) == (encoding, ["phone", "name"])
        assert cells(file) == [["+1", "Zoë 李"]]

    def test_a_named_encoding_is_used(self, written):
        assert cells(written("phone,name\n+1,Zoë\n".encode("cp1252"), encoding="cp1252")) == [["+1", "Zoë"]]
        assert cells(written("phone,name\n+1,Zoë\n".encode("utf-16-le"), encoding="utf-16-le")) == [["+1", "Zoë"]]
        assert cells(written("phone,name\n+1,Zoë\n".encode("utf-8-sig"), encoding="UTF8")) == [["+1", "Zoë"]]

    def test_windows_1252_is_refused_by_name(self, written):
        words = refusal(written, "phone,name\n+1,Asha\n+2,Zoë Müller\n".encode("cp1252"))

        assert "line 3 looks like Windows-1252" in words
        assert "--encoding cp1252" in words

    def test_utf_16_without_its_mark_is_refused_by_name(self, written):
        assert "give the command --encoding utf-16-le" in refusal(written, "phone,name\n+1,Zoë\n".encode("utf-16-le"))
        assert "give the command --encoding utf-16-be" in refusal(written, "phone,name\n+1,Zoë\n".encode("utf-16-be"))

    def test_a_file_that_is_not_in_the_named_encoding_is_refused(self, written):
        assert "not written in utf-16" in refusal(written, b"phone,name\n+1", encoding="utf-16")
        assert "not written in ascii" in refusal(written, "phone\nZoë", encoding="ascii")

    @pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13"])
    def test_an_unknown_encoding_is_refused(self, written, encoding):
        assert f"There is no encoding '{encoding}'" in refusal(written, HEADER, encoding=encoding)

    def test_single_broken_rows_in_a_utf_8_file_stay_their_own_trouble(self, written):
        content = "phone,name\n+1,Zoë\n+2,José\n".encode() + b"+3,\xff\n+4,d\n"

        assert cells(written(content)) == [["+1", "Zoë"], ["+2", "José"], ["+3", "\udcff"], ["+4", "d"]]

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"PK\x03\x04rest", "an Excel workbook or a zip archive"),
            (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook"),
            (b"%PDF-1.7", "a PDF"),
            (b"PK\x05\x06" + b"\0" * 18, "an empty zip archive"),
            (b"\x1f\x8b\x08", "a gzip archive"),
            (b"7z\xbc\xaf\x27\x1c\0\4", "a 7-Zip archive"),
            (b"\x89PNG\r\n\x1a\n", "a picture"),
            (b"\xff\xd8\xff\xe0", "a picture"),
            (b"\x7fELF\x02", "a program"),
            (b"MZ\x90\0\3", "a program"),
            (b"#!/bin/sh\n", "a program"),
            (b"BZh91AY&SY\0", "a bzip2 archive"),
            (b"RIFF\x24\0\0\0WEBP", "a picture or a recording"),
            (b"{\\rtf1\\ansi", "a Word document"),
            (b"SQLite format 3\0", "a database"),
            (b"\xef\xbb\xbf \n<html><table><td>phone</td>", "a web page or XML"),
            (b'<?xml version="1.0"?>', "a web page or XML"),
            (b"a\0\0\0b\0\0c" * 10, "not a text file"),
        ],
    )
    def test_what_is_no_text_is_refused_by_name(self, written, content, kind):
        assert kind in refusal(written, content)

    @pytest.mark.parametrize("column", ["MZ", "BZh", "RIFF", "PK", "7z"])
    def test_a_header_may_begin_like_something_else(self, written, column):
        assert written(f"{column},phone\na,+1\n").header == [column, "phone"]


class TestDelimiters:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_the_delimiter_is_found_out(self, written, delimiter):
        file = written("name,x\tphone,y\n".replace(",", delimiter).replace("\t", delimiter))

        assert file.delimiter == delimiter

    def test_a_header_of_one_column_needs_none(self, written):
        assert cells(written("phone\n+1\n+2;x\n")) == [["+1"], ["+2;x"]]

    def test_excels_note_about_the_delimiter_is_believed(self, written):
        file = written("sep=;\nphone;name\n+1;a\n")

        assert (file.delimiter, rows(file)) == (";", [(3, ["+1", "a"], None)])

    def test_a_delimiter_given_wrong_is_refused_by_name(self, written):
        words = refusal(written, "phone;name\n", delimiter=",")

        assert words == "people.csv separates its columns by a semicolon, not a comma. Leave --delimiter out."

    def test_an_unusual_delimiter_can_be_given(self, written):
        assert cells(written("phone~name\n+1~a\n", delimiter="~")) == [["+1", "a"]]

    def test_rows_separated_otherwise_than_the_header_are_refused(self, written):
        words = refusal(written, "phone,name\n+1;a\n")

        assert "header of people.csv is separated by a comma, its rows by a semicolon" in words

    def test_a_missing_phone_column_is_refused_with_the_columns_found(self, written):
        words = refusal(written, "Mobile No;Name\n+1;a\n")

        assert words.startswith("people.csv has no column 'phone'; it has: 'Mobile No', 'Name'.")
        assert "--map phone=… with its name" in words

    def test_the_phone_column_may_have_another_name_and_any_case(self, written):
        assert written("MOBILE NO;Name\n", column="Mobile No").delimiter == ";"
        assert written("Name,PHONE\n").delimiter == ","


class TestFiles:
    @pytest.mark.parametrize("content", [b"", b"\n\n", b" \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
    def test_an_empty_file_is_refused(self, written, content):
        assert "people.csv is empty. Its first line must name the columns" in refusal(written, content)

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path):
        with pytest.raises(Refusal, match=r"There is no file .*nothing\.csv\. Check the path\."):
            open_csv(tmp_path / "nothing.csv", column="phone")
        with pytest.raises(Refusal, match=r"is a folder\. Give the CSV file itself\."):
            open_csv(tmp_path, column="phone")

    def test_what_is_no_ordinary_file_is_refused(self):
        with pytest.raises(Refusal, match="not an ordinary file"):
            open_csv(csv_files.Path("/dev/null"), column="phone")

    def test_the_bytes_read_grow_to_the_size(self, written):
        file = written(HEADER + "+1,a,,,\n" * 20_000)
        positions = [position for _, position in file.rows()]

        assert positions == sorted(positions)
        assert positions[-1] == file.size
        assert positions[0] < file.size
