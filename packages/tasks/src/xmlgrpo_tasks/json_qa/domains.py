"""What the generated passages are about: things of five kinds, their fields, how each is said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any

from xmlgrpo_tasks.json_qa.leaves import MONTHS

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
NUMBER = {"type": "number"}
DATE = {"type": "string", "format": "date"}
AS_DATE, AS_NUMBER, AS_SET = ((("", mode),) for mode in ("date", "number", "set"))
STATES = ("new", "paid", "sent", "lost")
CABINS = ("economy", "business", "first")
LEVELS = ("easy", "medium", "hard")
RHYTHMS = ("once", "weekly", "monthly")
TIME = {"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}$"}


def words(text: str) -> tuple[str, ...]:
    """A short way to write a list of them."""
    return tuple(text.split(", " if "," in text else None))


FIRST = words(
    "Ann Bo Carla Dan Eva Finn Gita Hugo Ida Jan Kim Lea Max Nora Omar Pia Quinn Rosa Sam Tara Uma "
    "Vera Will Yara Zoe Aiko Bela Chen Dara Emre"
)
LAST = words(
    "Abe Berg Costa Diaz Evans Falk Gupta Hahn Ito Jones Klein Lopez Moreau Novak Okafor Patel "
    "Quist Rossi Sato Tran Ueda Vogel Wang Young Zimmer"
)
CITIES = words(
    "Oslo Rome Lima Cairo Paris Delhi Kyoto Quito Dakar Porto Turin Perth Busan Accra Minsk Riga "
    "Malmo Ghent Leeds Boise Davao Hanoi Izmir Nancy Tunis Sofia"
)
STREETS = words("Mill Church Park Station King Bridge Garden Harbour School Forest Lake Market")
PRODUCTS = words(
    "lamp chair table clock kettle carpet mirror shelf pillow basket candle vase blanket ladder "
    "bucket drill hammer paint brush rope"
)
DISHES = words(
    "lentil soup, apple cake, fish curry, bean stew, rice salad, leek pie, plum jam, corn bread, "
    "onion tart, carrot dip, beet salad, nut roast"
)
FOODS = words(
    "rice onions garlic butter flour milk eggs sugar salt pepper beans lentils carrots tomatoes "
    "cream cheese apples nuts lemon ginger"
)
STEPS = words(
    "wash the pan, chop the onions, heat the oil, boil the water, stir the mix, add the salt, "
    "cover the pot, cool the tray, whisk the eggs, grate the cheese"
)
TOPICS = words("budget hiring safety travel design sales training research housing energy")
LANGUAGES = words("English French Hindi Arabic Spanish Korean German Swahili Polish Turkish")


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to know about a record: its place in JSON, how it is drawn and how it is said."""

    name: str  # the key
    noun: str  # in questions
    schema: dict[str, Any]
    draw: Callable[[Random], Any]
    say: tuple[str, ...]  # sentences with {who} and {value}; the first is the plain one
    shown: Callable[[Any, Random], str] = lambda value, _random: str(value)
    compare: tuple[tuple[str, str], ...] = ()  # pointer below the key -> mode
    unknown: tuple[str, ...] = ()  # what is said where the value is null; it may be where there are


@dataclass(frozen=True, slots=True)
class Domain:
    """A kind of record."""

    noun: str
    key: Field  # which one it is; `say` is empty
    who: str  # with {value} of the key
    pronoun: str
    fields: tuple[Field, ...]
    noise: tuple[str, ...]  # with {number}, {name}, {city} and {date}


def among(values: Sequence[str]) -> Callable[[Random], str]:
    """Draws one of them."""
    return lambda random: random.choice(values)


def several(values: Sequence[str]) -> Callable[[Random], list[str]]:
    """Draws two to four of them, in any order."""
    return lambda random: random.sample(values, random.randint(2, 4))


def between(low: int, high: int) -> Callable[[Random], int]:
    """Draws a whole number."""
    return lambda random: random.randint(low, high)


def yes_or_no(random: Random) -> bool:
    """Draws one of two."""
    return random.random() < 0.5


def price(random: Random) -> float:
    """Draws an amount of money, mostly with cents."""
    return random.choice((random.randint(2, 90), random.randint(200, 250_000) / 100))


def day(random: Random) -> str:
    """Draws a date."""
    return (date(2023, 1, 1) + timedelta(random.randrange(2000))).isoformat()


def hour(random: Random) -> str:
    """Draws a time of the day."""
    return f"{random.randrange(24):02}:{random.randrange(0, 60, 5):02}"


def person(random: Random) -> str:
    """Draws a name."""
    return f"{random.choice(FIRST)} {random.choice(LAST)}"


def day_shown(value: str, random: Random) -> str:
    """A date as people write it."""
    on = date.fromisoformat(value)
    month = MONTHS[on.month - 1].title()
    return random.choice((value, f"{on.day} {month} {on.year}", f"{month} {on.day}, {on.year}"))


def price_shown(value: float, random: Random) -> str:
    """An amount as people write it."""
    amount = f"{value:,.2f}" if value != int(value) or random.random() < 0.5 else f"{value:,.0f}"
    return random.choice((f"${amount}", f"{amount} dollars"))


def listed(values: Sequence[Any], _random: Random) -> str:
    """`a, b and c`."""
    head, last = ", ".join(map(str, values[:-1])), str(values[-1])
    return f"{head} and {last}" if head else last


def said(yes: str, no: str) -> Callable[[Any, Random], str]:
    """A yes or no in words."""
    return lambda value, _random: yes if value else no


def texts_of(most: int) -> dict[str, Any]:
    """The schema of a list of texts."""
    return {"type": "array", "items": TEXT, "maxItems": most}


def record(**properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that has these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def coded(letters: Sequence[str], most: int) -> Callable[[Random], str]:
    """Draws letters with a number."""
    return lambda random: f"{random.choice(letters)}{random.randint(1, most)}"


def grams(random: Random) -> float:
    """Draws a weight with one decimal."""
    return random.randint(1, 300) / 10


def _lines(random: Random) -> list[dict[str, Any]]:
    return [
        {"name": name, "quantity": random.randint(1, 12), "price": price(random)}
        for name in random.sample(PRODUCTS, random.randint(1, 3))
    ]


def _lines_shown(value: list[dict[str, Any]], random: Random) -> str:
    return listed(
        [
            f"{line['quantity']} of the {line['name']} at {price_shown(line['price'], random)} each"
            for line in value
        ],
        random,
    )


LINES = {
    "type": "array",
    "items": record(name=TEXT, quantity=COUNT, price=NUMBER),
    "maxItems": 9,
}


def _address(random: Random) -> dict[str, Any]:
    return {
        "number": random.randint(1, 240),
        "street": f"{random.choice(STREETS)} Street",
        "city": random.choice(CITIES),
    }


# One field a row, as a table: how a formatter would break them hides what differs.
# fmt: off
FLAG = {"type": "boolean"}
PEOPLE = Domain(
    "person", Field("name", "name", TEXT, person, ()), "{value}", "This person",
    (
        Field("age", "age", COUNT, between(18, 90),
              ("{who} is {value} years old.", "{who} has turned {value}.")),
        Field("city", "city", TEXT, among(CITIES),
              ("{who} lives in {value}.", "{who} has a home in {value}.")),
        Field("children", "number of children", {"type": ["integer", "null"]}, between(1, 7),
              ("{who} has {value} children.",),
              unknown=("How many children {who} has is not known.",)),
        Field("born", "date of birth", DATE, day, ("{who} was born on {value}.",),
              day_shown, AS_DATE),
        Field("married", "whether the person is married", FLAG, yes_or_no, ("{who} is {value}.",),
              said("married", "not married")),
        Field("languages", "languages", texts_of(9), several(LANGUAGES), ("{who} speaks {value}.",),
              listed, AS_SET),
        Field("address", "address", record(number=COUNT, street=TEXT, city=TEXT), _address,
              ("{who} has the address {value}.", "Letters to {who} go to {value}."),
              lambda at, _random: f"{at['number']} {at['street']}, {at['city']}"),
    ),
    ("The town hall of {city} has {number} desks.", "{name} wrote these notes on {date}."),
)
ORDERS = Domain(
    "order", Field("order", "number of the order", COUNT, between(1000, 9999), ()),
    "order {value}", "This order",
    (
        Field("quantity", "quantity", COUNT, between(1, 99),
              ("{who} is for {value} pieces.", "{value} pieces belong to {who}.")),
        Field("product", "product", TEXT, among(PRODUCTS),
              ("{who} asks for the {value}.", "The product of {who} is the {value}.")),
        Field("total", "total in dollars", NUMBER, price, ("{who} costs {value} in all.",),
              price_shown, AS_NUMBER),
        Field("status", "status", {"enum": [*STATES]}, among(STATES),
              ("{who} is marked as {value}.", "The status of {who} is {value}.")),
        Field("due", "date of delivery", {**DATE, "type": ["string", "null"]}, day,
              ("{who} is due on {value}.",), day_shown, AS_DATE,
              ("{who} has no date of delivery yet.",)),
        Field("gift", "whether it is a gift", FLAG, yes_or_no, ("{who} is {value}.",),
              said("a gift", "not a gift")),
        Field("lines", "lines (name, quantity, price of one)", LINES, _lines,
              ("{who} lists {value}.",), _lines_shown, (("", "set"), ("/*/price", "number"))),
        Field("customer", "customer (name and city)", record(name=TEXT, city=TEXT),
              lambda random: {"name": person(random), "city": random.choice(CITIES)},
              ("{who} was placed by {value}.",),
              lambda by, _random: f"{by['name']} of {by['city']}"),
    ),
    ("The shop in {city} opened on {date}.", "{name} packs about {number} boxes a day."),
)
FLIGHTS = Domain(
    "flight", Field("flight", "flight number", TEXT, coded(("AX", "BT", "KM", "QF"), 999), ()),
    "flight {value}", "This flight",
    (
        Field("to", "destination", TEXT, among(CITIES),
              ("{who} goes to {value}.", "{who} lands in {value}.")),
        Field("leaves", "time of departure", TIME, hour,
              ("{who} leaves at {value}.", "{value} is when {who} takes off.")),
        Field("gate", "gate", {"type": ["string", "null"]}, coded("ABCD", 40),
              ("{who} boards at gate {value}.",), unknown=("The gate of {who} is not announced.",)),
        Field("seats", "number of free seats", COUNT, between(1, 300),
              ("{who} has {value} free seats.",)),
        Field("fare", "fare in dollars", NUMBER, price, ("A ticket for {who} costs {value}.",),
              price_shown, AS_NUMBER),
        Field("cabin", "cabin", {"enum": [*CABINS]}, among(CABINS),
              ("{who} has only the {value} cabin.",)),
        Field("stops", "stops in their order", texts_of(9), several(CITIES),
              ("{who} stops in {value}, in this order.",), listed),
        Field("delayed", "whether it is delayed", FLAG, yes_or_no, ("{who} is {value}.",),
              said("delayed", "on time")),
    ),
    ("The airport of {city} has {number} shops.", "On {date} the old hall was closed.",
     "{name} works at the desk."),
)
RECIPES = Domain(
    "recipe", Field("dish", "dish", TEXT, among(DISHES), ()), "the {value}", "This dish",
    (
        Field("serves", "number of people served", COUNT, between(1, 16),
              ("{who} serves {value} people.", "{value} people can eat {who}.")),
        Field("minutes", "minutes needed", COUNT, between(5, 180),
              ("{who} takes {value} minutes.",)),
        Field("salt_g", "grams of salt", {"type": ["number", "null"]}, grams,
              ("{who} needs {value} g of salt.",), compare=AS_NUMBER,
              unknown=("For {who}, salt is to taste.",)),
        Field("vegan", "whether it is vegan", FLAG, yes_or_no, ("{who} is {value}.",),
              said("vegan", "not vegan")),
        Field("level", "level", {"enum": [*LEVELS]}, among(LEVELS),
              ("{who} is of the level {value}.",)),
        Field("ingredients", "ingredients", texts_of(9), several(FOODS),
              ("{who} is made of {value}.",), listed, AS_SET),
        Field("steps", "steps in their order", texts_of(9), several(STEPS),
              ("To cook {who}: {value}, in this order.",), listed),
        Field("author", "author", TEXT, person, ("{who} is by {value}.",),
              compare=(("", "text-fold"),)),
    ),
    ("The book was printed in {city} on {date}.", "Page {number} has a picture by {name}."),
)
MEETINGS = Domain(
    "meeting", Field("topic", "topic", TEXT, among(TOPICS), ()),
    "the {value} meeting", "This meeting",
    (
        Field("date", "date", DATE, day,
              ("{who} is on {value}.", "{value} is the day of {who}."), day_shown, AS_DATE),
        Field("starts", "time of its start", TIME, hour, ("{who} starts at {value}.",)),
        Field("room", "room number", {"type": ["integer", "null"]}, between(1, 400),
              ("{who} is in room {value}.",), unknown=("{who} has no room yet.",)),
        Field("guests", "guests", texts_of(9), several(FIRST), ("{who} is for {value}.",),
              listed, AS_SET),
        Field("chair", "chair (name and age)", record(name=TEXT, age=COUNT),
              lambda random: {"name": person(random), "age": random.randint(20, 80)},
              ("{who} is led by {value}.",), lambda by, _random: f"{by['name']}, aged {by['age']}"),
        Field("online", "whether it is online", FLAG, yes_or_no, ("{who} is held {value}.",),
              said("online", "on site")),
        Field("repeats", "how often it is held", {"enum": [*RHYTHMS]}, among(RHYTHMS),
              ("{who} takes place {value}.",)),
    ),
    ("The building in {city} has {number} rooms.", "{name} sent this list on {date}."),
)
# fmt: on
DOMAINS = (PEOPLE, ORDERS, FLIGHTS, RECIPES, MEETINGS)
EASY = ((PEOPLE, ("age", "city")), (ORDERS, ("quantity", "product")))
