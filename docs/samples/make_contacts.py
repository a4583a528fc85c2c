"""Write contacts.csv beside this file: made-up people for trying Kaanha out. The same seed gives the same file.

    python docs/samples/make_contacts.py

Nobody is meant by them. Names are given and family names common in a country, put together by chance; the addresses
are at domains that are reserved for examples; and the numbers are, where regulators keep some for film and fiction,
taken from there:

* United Kingdom: +44 7700 900000 to 900999 (Ofcom)
* France: +33 6 39 98 0000 to 9999 (Arcep)
* Germany: +49 171 39200 00 to 99 and +49 176 040690 00 to 99 (Bundesnetzagentur)
* Canada and the United States: 555-0100 to 555-0199 in any area (North American Numbering Plan)

Elsewhere they have the length of a number but begin as none does there; the import takes them with a warning.
Among the good rows are bad ones of every kind, repeated people and people who opted out, as in any real list.
"""

from __future__ import annotations

import csv
import random
import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

SEED = 20260101
HEADER = ["phone", "name", "email", "tags", "optedIn", "city", "order_number"]
DOMAINS = ("example.com", "example.org", "example.net")

NEWSLETTER = range(800)  # people in the newsletter, customers, and both at once
CUSTOMERS = range(550, 1050)
OPTED_OUT = 60
NEVER_ASKED = 20
REPEATED = 10


@dataclass(frozen=True)
class Country:
    """Where some people live: how many, what they are called, and how their numbers are written.

    A `#` in a pattern is a digit that differs from person to person; `blocks` are taken in turn for the `@`.
    """

    people: int
    given: str
    family: str
    cities: str
    patterns: tuple[str, ...]
    blocks: tuple[str, ...] = ("",)
    family_first: bool = False

    def names(self, chance: random.Random) -> Iterator[str]:
        while True:
            given, family = chance.choice(self.given.split()), chance.choice(self.family.split())
            yield f"{family} {given}" if self.family_first else f"{given} {family}".replace("_", " ")

    def digits(self, chance: random.Random) -> list[tuple[str, str]]:
        """As many different (block, digits) as there are people."""
        length = self.patterns[0].count("#")
        every = [(block, f"{n:0{length}}") for block in self.blocks for n in range(10**length)]
        return chance.sample(every, self.people)


NORTH_AMERICAN = (
    "+1 @ 555 01##",
    "+1 (@) 555-01##",
    "+1-@-555-01##",
    "+1.@.555.01##",
    "001 @ 555 01##",
    "+1@55501##",
)

COUNTRIES = {
    "India": Country(
        260,
        "Asha Priya Ananya Diya Kavya Meera Nisha Pooja Ravi Arjun Rahul Vikram Sanjay Amit Rohan Karthik Lakshmi आशा "
        "प्रिया राहुल अर्जुन லட்சுமி",
        "Sharma Patel Singh Kumar Gupta Reddy Iyer Nair Das Mehta Joshi Rao Bose Kulkarni Chauhan शर्मा पटेल",
        "Mumbai Delhi Bengaluru Chennai Kolkata Pune Hyderabad Jaipur",
        (
            "+91 5550# #####",
            "+91-5550#-#####",
            "+915550######",
            "00915550######",
            "+91 5550######",
            "(+91) 5550#-#####",
        ),
    ),
    "United Kingdom": Country(
        160,
        "Oliver George Amelia Isla Ava Noah Freya Harry Niamh Rhys Siân Callum Eilidh Zoë Chloé Imogen Tom Grace",
        "Smith Jones Taylor Brown Williams Wilson Davies Evans Thomas Roberts O'Connor Walker MacLeod Hughes Khan",
        "London Manchester Leeds Bristol Cardiff Glasgow Belfast",
        ("+44 7700 900###", "+44 7700-900-###", "+44 (0)7700 900###", "0044 7700 900###", "+447700900###"),
    ),
    "Germany": Country(
        90,
        "Anna Jürgen Lukas Sophie Björn Käthe Maximilian Lena Jörg Antje Ömer Emine Felix Greta",
        "Müller Schmidt Schneider Fischer Weber Schäfer Köhler Groß Böhm Yılmaz Krüger Jäger",
        "Berlin Hamburg München Köln Frankfurt Düsseldorf Leipzig",
        ("+49 @##", "0049 @##", "+49-@##", "+49 (0)@##"),
        blocks=("171 39200", "176 040690"),
    ),
    "France": Country(
        100,
        "Chloé Léa Manon Hélène Zoé François Jérôme Théo Loïc Gaël Noémie Aïcha Benoît",
        "Martin Bernard Dubois Lefèvre Moreau Girard Bérenger Côté Garçon N'Diaye Müntz",
        "Paris Lyon Marseille Toulouse Nantes Lille Besançon",
        (
            "+33 6 39 98 ## ##",
            "+33 (0)6 39 98 ## ##",
            "0033 6 39 98 ## ##",
            "+33.6.39.98.##.##",
            "+33\u00a06\u00a039\u00a098\u00a0##\u00a0##",
        ),
    ),
    "Brazil": Country(
        120,
        "João José Ana Maria Antônio Conceição Luís Inês Mateus Letícia Vinícius Beatriz Thaís Caio",
        "Silva Santos Oliveira Souza Araújo Gonçalves Conceição Magalhães Falcão Brandão Nuñes",
        "São_Paulo Rio_de_Janeiro Brasília Salvador Fortaleza Curitiba",
        ("+55 @ 0000#-####", "+55 (@) 0000#-####", "+55@0000#####", "0055 @ 0000# ####"),
        blocks=("11", "21", "31", "71"),
    ),
    "Mexico": Country(
        100,
        "José Guadalupe María Juan Sofía Ximena Ángel Jesús Lucía Andrés Itzel Xóchitl Íñigo",
        "Hernández García Martínez López González Pérez Rodríguez Sánchez Ramírez Muñoz Núñez",
        "Ciudad_de_México Guadalajara Monterrey Puebla Mérida",
        ("+52 000 555 ####", "+52 (000) 555-####", "+52000555####", "+52-000-555-####"),
    ),
    "Spain": Country(
        90,
        "Lucía Martín Hugo Begoña Iñaki Nuria Álvaro Jordi Núria Aitor Íñigo Carmen Xavi",
        "García Fernández Ibáñez Muñoz Peña Castañeda Ñíguez Domènech Etxeberria Núñez",
        "Madrid Barcelona València Sevilla Bilbao A_Coruña",
        ("+34 555 000 ###", "+34 555 00 0# ##", "+34555000###", "0034 555 000 ###"),
    ),
    "Indonesia": Country(
        90,
        "Budi Siti Dewi Agus Putri Rizky Wayan Made Nur Ayu Bambang Sri Eka",
        "Santoso Wijaya Susanto Hidayat Saputra Lestari Pratama Siregar Nasution Simatupang",
        "Jakarta Surabaya Bandung Medan Denpasar Yogyakarta",
        ("+62 805-5500-####", "+62 805 5500 ####", "+628055500####", "0062 805 5500 ####"),
    ),
    "Nigeria": Country(
        80,
        "Chinedu Ngozi Adébáyọ̀ Olúwaṣeun Ìyá Fúnmi Emeka Amina Yusuf Ifẹ́ Chiamaka Tolu Aisha",
        "Okafor Adeyemi Balógun Eze Nwosu Ibrahim Ọlátúnjí Abubakar Obi Adébọ̀",
        "Lagos Abuja Kano Ibadan Port_Harcourt",
        ("+234 555 000 ####", "+234-555-000-####", "+234555000####", "00234 555 000 ####"),
    ),
    "Egypt": Country(
        40,
        "أحمد محمد نور فاطمة ليلى مريم Ahmed Nour Mona Youssef",
        "حسن علي محمود إبراهيم السيد Hassan Mahmoud Fawzy",
        "القاهرة الإسكندرية Giza Luxor",
        ("+20 555 000 ####", "+20-555-000-####", "+20555000####", "\u0660\u0660\u0662\u0660 555 000 ####"),
    ),
    "United Arab Emirates": Country(
        40,
        "Omar Khalid Mariam Fatima Rashid Hessa سلطان عائشة Priya Joseph",
        "Al_Mansoori Al_Suwaidi Haddad Rahman النعيمي Fernandes Nair",
        "Dubai Abu_Dhabi Sharjah أبوظبي",
        ("+971 51 000 ####", "+971-51-000-####", "+97151000####", "00971 51 000 ####"),
    ),
    "Japan": Country(
        60,
        "陽翔 蓮 結衣 葵 さくら 健太 美咲 翔太 ひなた 大輔",
        "佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村 小林",
        "東京 大阪 京都 札幌 福岡",
        ("+81 90-0000-####", "+81 90 0000 ####", "+81900000####", "＋８１ 90－0000－####"),
        family_first=True,
    ),
    "Canada": Country(
        60,
        "Émile Chloé Liam Olivia Noah Zoë Étienne Maëlle Aiyana Jacob Sophie",
        "Tremblay Gagnon Roy Bouchard Côté MacDonald Nguyen Singh Bélanger Wong",
        "Toronto Montréal Vancouver Québec Ottawa Halifax",
        NORTH_AMERICAN,
        blocks=("416", "514", "604", "613", "780", "902"),
    ),
    "United States": Country(
        36,
        "Emma Liam Olivia Noah José Sofía Malik Aaliyah Hiroshi Mei Dakota",
        "Johnson Williams García Nguyen O'Brien Washington Kim Begay Rodríguez",
        "Seattle Austin Boston Miami Denver Chicago",
        NORTH_AMERICAN,
        blocks=("206", "305", "415", "512", "617", "702"),
    ),
}

# Rows that can't be taken, each for a reason of its own; written as they stand.
BAD_ROWS = (
    "9.15551E+11,Shortened Byaspreadsheet,,newsletter,true,Pune,",
    "5550012345,Without Countrycode,,newsletter,true,Delhi,",
    "07700 900123,National Number,,customer,true,London,",
    "+44 7700 9O0124,Letter Among Digits,,newsletter,true,Leeds,",
    "+91 5550,Too Short,,newsletter,true,Mumbai,",
    "+44 7700 900123 456,Too Long,,newsletter,true,Bristol,",
    ",Phone Missing,,newsletter,true,Paris,",
    "n/a,Not Available,,customer,true,Lyon,",
    "+33 6 39 98 00 01 / +33 6 39 98 00 02,Two Numbers,,newsletter,true,Nantes,",
    "+1 416 555 0100 ext. 12,Has Extension,,customer,true,Toronto,",
    "+999 555 0001234,Country Unknown,,newsletter,true,Nowhere,",
    "+800 5550 1234,Country None,,newsletter,true,Nowhere,",
    "+49 171 3920011,Undecided Person,,newsletter,maybe,Berlin,",
    "+49 171 3920012,Tags Not Quoted,,newsletter,vip,true,Hamburg,",
    "+49 171 3920013,Cells Missing,,newsletter",
    '+49 171 3920014,"Quote Left Open,,newsletter,true,Köln,',
)
BAD_EMAILS = ("not an address", "asha@", "@example.com", "a b@example.org", "none")


@dataclass
class Person:
    number: str  # E.164, to tell people apart
    cells: list[str]


def make() -> str:
    """The whole file."""
    chance = random.Random(SEED)  # noqa: S311 — sample data
    people = [person for country in COUNTRIES.values() for person in _people(country, chance)]
    chance.shuffle(people)
    for place, person in enumerate(people):
        person.cells[3] = ", ".join(_tags(place, chance))
        person.cells[6] = f"A-{10_000 + place}" if place in CUSTOMERS else ""
    _decide_consent(people, chance)
    for person, email in zip(chance.sample(people, len(BAD_EMAILS)), BAD_EMAILS, strict=True):
        person.cells[2] = email
    rows = [_written(person.cells) for person in people]
    chance.shuffle(rows)
    return "".join(_with_the_rest(rows, people, chance))


def _people(country: Country, chance: random.Random) -> Iterator[Person]:
    names = country.names(chance)
    for block, digits in country.digits(chance):
        name, city = next(names), chance.choice(country.cities.split()).replace("_", " ")
        number = _filled(country.patterns[0], block, digits)
        yield Person(
            number,
            [_filled(chance.choice(country.patterns), block, digits), name, _email(name, chance), "", "", city, ""],
        )


def _filled(pattern: str, block: str, digits: str) -> str:
    following = iter(digits)
    return re.sub("#", lambda _: next(following), pattern.replace("@", block))


def _email(name: str, chance: random.Random) -> str:
    """An address for most; of the letters that e-mail likes, or of a number where the name has none of them."""
    if chance.random() < 0.2:
        return ""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    local = ".".join(re.findall("[a-z]+", plain))
    return f"{local if len(local) > 3 else 'person'}{chance.randrange(100, 1000)}@{chance.choice(DOMAINS)}"


def _tags(place: int, chance: random.Random) -> list[str]:
    chosen = [name for name, those in (("newsletter", NEWSLETTER), ("customer", CUSTOMERS)) if place in those]
    chosen += ["vip"] if place in CUSTOMERS and chance.random() < 0.25 else []
    chosen += [name for name, share in (("tech", 0.15), ("summer-event", 0.12)) if chance.random() < share]
    return chosen if chosen and chance.random() < 0.95 else [*chosen, "new", "lead"]


def _decide_consent(people: list[Person], chance: random.Random) -> None:
    special = chance.sample(people, OPTED_OUT + NEVER_ASKED)
    for person in people:
        person.cells[4] = chance.choice(("true", "true", "true", "TRUE", "yes"))
    for place, person in enumerate(special):
        person.cells[4] = "false" if place < OPTED_OUT else ""


def _with_the_rest(rows: list[str], people: list[Person], chance: random.Random) -> Iterator[str]:
    """The header and the good rows, with bad rows in between and some people a second time toward the end."""
    last = len(rows) * 9 // 10
    places = dict(zip(chance.sample(range(20, last), len(BAD_ROWS)), BAD_ROWS, strict=True))
    yield _written(HEADER)
    for place, row in enumerate(rows[:last]):
        if place in places:
            yield f"{places[place]}\n"
        yield row
    early = set(rows[: last // 2])
    first = [person for person in people if _written(person.cells) in early]
    for place, row in enumerate(rows[last:]):
        if place < REPEATED:
            again = first[place * 7].cells
            yield _written(
                [re.sub(r"[^+0-9]", "", again[0].replace("(0)", "")) if again[0].isascii() else again[0], *again[1:]]
            )
        yield row


def _written(cells: list[str]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


if __name__ == "__main__":
    target = Path(__file__).with_name("contacts.csv")
    target.write_text(make(), encoding="utf-8")
    sys.stdout.write(f"wrote {target}\n")
