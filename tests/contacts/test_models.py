import pytest

from contacts.models import Contact


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Asha Example", "Asha"),
        ("Asha", "Asha"),
        ("O'Brien, Pat", "O'Brien"),
        ("  Zoë\u00a0Example ", "Zoë"),
        ("Smith,Jo", "Smith,Jo"),
        (",", ""),
        (" ", ""),
        ("", ""),
    ],
)
def test_the_first_name_is_the_first_word_without_a_comma_after_it(name, first):
    assert Contact(name=name).first_name == first
