"""What generated rows are about: tables, their columns and the values that stand in them."""

from collections.abc import Sequence
from dataclasses import dataclass

from xmlgrpo_tasks.sql.inserts import Value

FIRST_NAMES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jana", "Kai", "Lena"),
    *("Milo", "Nora", "Omar", "Pia", "Quinn", "Rosa", "Sami", "Tess", "Uma", "Vito", "Wim", "Zoe"),
)
PLACES = (
    *("Avila", "Brno", "Cork", "Delft", "Essen", "Faro", "Genoa", "Hull", "Izmir", "Jena", "Lyon"),
)
COUNTRIES = ("Chad", "Chile", "Cuba", "Egypt", "Japan", "Kenya", "Nepal", "Peru", "Spain", "Togo")
TITLES = (
    *("Amber", "Blue Hour", "Cold Sea", "Dust", "Echo", "Far Away", "Gold", "Home", "Iron", "Joy"),
    *("Last Train", "Moon", "North", "Old Town", "Paper", "Quiet", "Rain", "Salt", "Tide", "Wind"),
)
CODES = tuple(f"{letter}{number}" for letter in "ABCDEFG" for number in (7, 12, 30, 45))


@dataclass(frozen=True, slots=True)
class Column:
    """A column and what may stand in it."""

    name: str
    values: Sequence[Value]
    unique: bool = False
    may_lack: bool = False  # NULL where nothing is known
    said: str = ""  # in questions; the name where empty

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers."""
        return not isinstance(self.values[0], str)

    @property
    def type(self) -> str:
        """As SQL writes it."""
        kinds = {int: "INTEGER", float: "REAL", str: "TEXT"}
        return kinds[type(self.values[0])]

    @property
    def words(self) -> str:
        """What it is called in questions."""
        return self.said or self.name


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its first column names the things in it."""

    name: str  # of the table: several things
    thing: str
    columns: tuple[Column, ...]
    part_of: str = ""  # the thing of another table, which this one refers to as `<thing>_id`


def _named(values: Sequence[str], name: str = "name") -> Column:
    return Column(name, values, unique=True)


def _tenths(low: int, high: int) -> tuple[float, ...]:
    """Numbers that are never whole, so that the column is one of REALs."""
    return tuple(n / 10 for n in range(low * 10 + 1, high * 10) if n % 10)


TABLES = (
    Table("pets", "pet", (
        _named(FIRST_NAMES),
        Column("kind", ("cat", "dog", "fish", "bird", "snake")),
        Column("age", range(1, 20)),
        Column("weight", _tenths(1, 40), may_lack=True),
    )),
    Table("books", "book", (
        _named(TITLES, "title"),
        Column("genre", ("crime", "poetry", "travel", "history", "comic")),
        Column("pages", range(80, 600, 10), said="number of pages"),
        Column("year", range(1950, 2026), may_lack=True),
    )),
    Table("staff", "person", (
        _named(FIRST_NAMES),
        Column("team", ("sales", "legal", "design", "support")),
        Column("salary", range(30, 100)),
        Column("age", range(20, 66), may_lack=True),
    )),
    Table("cities", "city", (
        _named(PLACES),
        Column("country", COUNTRIES),
        Column("people", range(10, 900, 5), said="number of people"),
        Column("area", _tenths(5, 90), may_lack=True),
    )),
    Table("films", "film", (
        _named(TITLES, "title"),
        Column("genre", ("drama", "comedy", "horror", "western")),
        Column("minutes", range(70, 190), said="length in minutes"),
        Column("rating", _tenths(1, 10), may_lack=True),
    )),
    Table("sales", "sale", (
        _named(CODES, "code"),
        Column("item", ("pen", "lamp", "desk", "chair", "clock")),
        Column("price", range(2, 90)),
        Column("amount", range(1, 30), may_lack=True),
    )),
    Table("pupils", "pupil", (
        _named(FIRST_NAMES),
        Column("class", ("red", "green", "blue", "white")),
        Column("score", range(1, 100)),
        Column("missed", range(15), may_lack=True, said="number of missed days"),
    )),
    Table("players", "player", (
        _named(FIRST_NAMES),
        Column("club", ("Lions", "Bears", "Hawks", "Wolves")),
        Column("goals", range(40), said="number of goals"),
        Column("height", range(155, 210), may_lack=True),
    )),
    Table("flights", "flight", (
        _named(CODES, "code"),
        Column("city", PLACES),
        Column("seats", range(20, 300, 5), said="number of seats"),
        Column("delay", range(90), may_lack=True, said="delay in minutes"),
    )),
)  # fmt: skip

FAMILIES = (
    (
        Table("authors", "author", (_named(FIRST_NAMES), Column("country", COUNTRIES[:4]))),
        Table("books", "book", (
            _named(TITLES, "title"),
            Column("pages", range(80, 600, 10), said="number of pages"),
            Column("price", range(5, 40)),
        ), part_of="author"),
    ),
    (
        Table("teams", "team", (_named(PLACES), Column("league", ("first", "second", "third")))),
        Table("players", "player", (
            _named(FIRST_NAMES),
            Column("goals", range(30), said="number of goals"),
            Column("age", range(17, 40)),
        ), part_of="team"),
    ),
    (
        Table("shops", "shop", (_named(PLACES), Column("country", COUNTRIES[:4]))),
        Table("orders", "order", (
            _named(CODES, "code"),
            Column("amount", range(1, 60)),
            Column("days", range(1, 30), said="number of days"),
        ), part_of="shop"),
    ),
    (
        Table("doctors", "doctor", (_named(FIRST_NAMES), Column("ward", ("eye", "heart", "skin")))),
        Table("visits", "visit", (
            _named(CODES, "code"),
            Column("minutes", range(5, 90), said="length in minutes"),
            Column("cost", range(10, 200)),
        ), part_of="doctor"),
    ),
    (
        Table("courses", "course", (_named(TITLES), Column("level", ("easy", "medium", "hard")))),
        Table("students", "student", (
            _named(FIRST_NAMES),
            Column("score", range(1, 100)),
            Column("age", range(16, 60)),
        ), part_of="course"),
    ),
)  # fmt: skip
