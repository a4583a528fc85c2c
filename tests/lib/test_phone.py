import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaanha.lib.phone import InvalidPhone, Phone, country_of_area, from_wa_id, is_country, parse, spellings

INDIAN = Phone("+919876543210", "IN")


def reason(text: str, **options: str) -> str:
    with pytest.raises(InvalidPhone) as refused:
        parse(text, **options)
    return str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "+919876543210",
        "+91 98765 43210",
        "+91-98765-43210",
        "+91.98765.43210",
        "(+91) 98765-43210",
        "00919876543210",
        "0091 98765 43210",
        "＋９１９８７６５４３２１０",
        "（＋９１）９８７６５４３２１０",
        "+٩١٩٨٧٦٥٤٣٢١٠",
        "+९१९८७६५४३२१०",
        "+91\u00a098765\u00a043210",
        "+91 98765\u201143210",
        "\ufeff+919876543210",
        "\u202a+919876543210\u202c",
        "'+919876543210",
        " \u2019+919876543210\t",
        "+91/98765/43210",
        "+919876543210.0",
        "919876543210",
        "919876543210.0",
    ],
)
def test_one_number_written_in_many_ways_is_one_number(text):
    assert parse(text) == INDIAN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("  \u00a0", "empty"),
        ("9.19877E+11", "a spreadsheet has shortened"),
        ("9,19877e+11", "a spreadsheet has shortened"),
        ("919877E6", "a spreadsheet has shortened"),
        ("+91 98765 4321O", "letters"),
        ("tel:+919876543210", "letters"),
        ("unknown", "no phone number"),
        ("+", "no phone number"),
        ("+1 212 555 0142 x12", "extension"),
        ("+1 212 555 0142 ext. 12", "extension"),
        ("+44 7700 900123 / +44 7700 900124", "more than one"),
        ("+447700900123;+447700900124", "more than one"),
        ("+447700900123 +447700900124", "more than one"),
        ("07700 900123 or 07700 900124", "more than one"),
        ("+91 98765*43210", "characters"),
        ("9876543210", "Put + and the country code in front"),
        ("07700 900123", "Put + and the country code in front"),
        ("+999123456789", "no country code that exists"),
        ("+0919876543210", "no country code that exists"),
        ("+9198765", "too few digits for +91 (IN)"),
        ("+91", "too few digits"),
        ("+44770090012345", "too many digits for +44 (GB)"),
        ("+91" + "9" * 40, "too many digits"),
        ("+1 555 0142", "area code is missing"),
        ("+883510012345", "belongs to no country"),
        ("+80012345678", "belongs to no country"),
    ],
)
def test_what_is_no_number_is_refused_in_words(text, words):
    assert words in reason(text)


def test_an_endless_text_is_quoted_in_part():
    assert len(reason("x1" * 5000)) < 120


@pytest.mark.parametrize(
    ("text", "e164", "country"),
    [
        ("+44 7700 900123", "+447700900123", "GB"),
        ("+44 (0)7700 900123", "+447700900123", "GB"),
        ("+1 212 155 0142", "+12121550142", "US"),
        ("+1 416 155 0142", "+14161550142", "CA"),
        ("+1 868 155 0142", "+18681550142", "TT"),
        ("+91 55500 12345", "+915550012345", "IN"),
        ("+33 6 39 98 12 34", "+33639981234", "FR"),
        ("+1 555 555 0142", "+15555550142", ""),
    ],
)
def test_possible_but_not_valid_is_accepted_with_a_warning(text, e164, country):
    phone = parse(text)

    assert (phone.e164, phone.country) == (e164, country)
    assert phone.warning
    assert "not in use in the numbering plan" in phone.warning


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("+12125550142", "US"),
        ("+14165550142", "CA"),
        ("+18765550142", "JM"),
        ("+18095550142", "DO"),
        ("+17875550142", "PR"),
        ("+18005550142", ""),
        ("+77011234567", "KZ"),
        ("+74951234567", "RU"),
        ("+390612345678", "IT"),
    ],
)
def test_a_calling_code_of_several_countries_is_told_apart(text, country):
    assert parse(text) == Phone(text, country)


@pytest.mark.parametrize(("area", "country"), [("212", "US"), ("604", "CA"), ("242", "BS"), ("555", ""), ("900", "")])
def test_an_area_code_names_its_country(area, country):
    assert country_of_area(area) == country


def test_mexicos_and_brazils_old_spellings_become_the_number_that_is_dialed_today():
    assert parse("+52 1 55 1234 5678") == Phone(
        "+525512345678", "MX", "It is written the old way; taken as +525512345678."
    )
    assert parse("+55 11 8765-4321") == Phone(
        "+5511987654321", "BR", "It is written the old way; taken as +5511987654321."
    )
    assert parse("+55 11 3765-4321") == Phone("+551137654321", "BR")  # a landline has eight digits


def test_a_short_number_without_plus_says_as_what_it_was_taken():
    assert parse("6581234567") == Phone("+6581234567", "SG", "It has no plus; taken as +6581234567 (SG).")


def test_a_default_country_reads_national_numbers():
    assert parse("98765 43210", default_country="IN") == INDIAN
    assert parse("098765 43210", default_country="IN") == INDIAN
    assert parse("919876543210", default_country="GB") == INDIAN
    assert parse("+919876543210", default_country="GB") == INDIAN
    assert parse("07700 900123", default_country="GB").e164 == "+447700900123"
    assert "area code is missing for +44 (GB)" in reason("0770", default_country="GB")


def test_only_known_countries_are_countries():
    assert is_country("IN")
    assert not is_country("in")
    assert not is_country("XX")


def test_a_wa_id_is_the_number_that_people_import():
    assert from_wa_id("5215512345678") == Phone("+525512345678", "MX")
    assert from_wa_id("551187654321") == Phone("+5511987654321", "BR")
    assert from_wa_id("447700900123") == Phone("+447700900123", "GB")
    assert from_wa_id("99912") == Phone("+99912", "")


def test_a_wa_id_is_looked_for_in_every_spelling():
    assert spellings("5215512345678") == ["+525512345678", "+5215512345678"]
    assert spellings("5491112345678") == ["+5491112345678", "+541112345678"]
    assert spellings("919876543210") == ["+919876543210"]


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_a_sentence(text):
    sentence = e164 = ""
    try:
        e164 = parse(text).e164
    except InvalidPhone as refused:
        sentence = str(refused)

    assert sentence.endswith(".") or parse(e164).e164 == e164
