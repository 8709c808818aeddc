"""Rows whose gold is certain: a record first, then the passage that says it, among others.

The passage tells of two or three things of one kind, says some facts twice (the first time wrong,
and then that it was), leaves some unknown, and holds numbers, names and dates of nothing asked.
The question names the thing by its name, by another value of it, or as the largest of all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from xmlgrpo_tasks.json_qa import domains
from xmlgrpo_tasks.json_qa.domains import Domain, Field
from xmlgrpo_tasks.rows import Row, different_rows

Level = Literal["easy", "full", "mixed"]
EASY_SHARE = 0.25  # of the rows of `mixed`
UNKNOWN_SHARE, CORRECTED_SHARE, PRONOUN_SHARE = 0.3, 0.2, 0.5


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that a passage tells of."""

    key: Any
    values: dict[str, Any]  # field name -> value


def generated(count: int, seed: int, level: Level = "mixed") -> Iterator[Row]:
    """Rows of the task, the same for the same seed and level, no two alike.

    Args:
        count: how many.
        seed: of everything drawn.
        level: `easy` for passages of up to 60 words about two things with two facts each, and
            answers of up to 60 characters; `full` for the rest; `mixed` for both.
    """
    random = Random(f"json_qa {level} {seed}")  # noqa: S311 - no secret

    def draw(_seen: object) -> Row:
        is_easy = level == "easy" or (level == "mixed" and random.random() < EASY_SHARE)
        return _easy_row(random) if is_easy else _row(random)

    return different_rows(count, ("text", "question"), draw)


def _easy_row(random: Random) -> Row:
    domain, names = random.choice(domains.EASY)
    fields = [field for field in domain.fields if field.name in names]
    records = _records(domain, fields, 2, random)
    wanted = random.choice(records)
    asked = random.sample(fields, random.randint(1, 2))
    text = " ".join(
        capital(field.say[0].format(who=_who(domain, one), value=one.values[field.name]))
        for one in records
        for field in fields
    )
    return _as_row(domain, text, _who(domain, wanted), wanted, asked)


def _row(random: Random) -> Row:
    domain = random.choice(domains.DOMAINS)
    fields = random.sample(domain.fields, random.randint(3, len(domain.fields)))
    records = _records(domain, fields, random.randint(2, 3), random)
    wanted = random.choice(records)
    which, wanted, by = _which(domain, fields, records, wanted, random)
    others = [field for field in fields if field is not by]
    asked = random.sample(others, random.randint(1, min(5, len(others))))
    if not any(_is_open(field, wanted) for field in asked):
        asked += [field for field in others if _is_open(field, wanted)][:1]
    if by is not None:
        asked.append(domain.key)
    elif not any(_is_open(field, wanted) for field in asked):
        return _row(random)
    return _as_row(domain, _passage(domain, fields, records, random), which, wanted, asked)


def _records(domain: Domain, fields: list[Field], count: int, random: Random) -> list[Record]:
    """Different things: no key twice."""
    keys: list[Any] = []
    while len(keys) < count:
        key = domain.key.draw(random)
        if key not in keys:
            keys.append(key)
    return [Record(key, {field.name: _value(field, random) for field in fields}) for key in keys]


def _value(field: Field, random: Random) -> Any:
    if field.unknown and random.random() < UNKNOWN_SHARE:
        return None
    return field.draw(random)


def _is_open(field: Field, of: Record) -> bool:
    """Whether the value could be any of many: what a constant reply does not meet."""
    value = of.values[field.name]
    return value is not None and not isinstance(value, bool) and "enum" not in field.schema


def _which(
    domain: Domain, fields: list[Field], records: list[Record], wanted: Record, random: Random
) -> tuple[str, Record, Field | None]:
    """How the question names the thing, which one it then is, and the field that decides."""
    field = random.choice(fields)
    values = [one.values[field.name] for one in records]
    value = wanted.values[field.name]
    way = random.choice(("key", "value", "largest"))
    if way == "value" and isinstance(value, str) and values.count(value) == 1:
        shown = field.shown(value, random)
        return f"the {domain.noun} whose {field.noun} is {shown}", wanted, field
    numbers = [number for number in values if type(number) in (int, float)]
    if way == "largest" and len(numbers) == len(values) and numbers.count(max(numbers)) == 1:
        best = records[numbers.index(max(numbers))]
        return f"the {domain.noun} with the largest {field.noun}", best, field
    return _who(domain, wanted), wanted, None


def _who(domain: Domain, one: Record) -> str:
    return domain.who.format(value=one.key)


def _passage(domain: Domain, fields: list[Field], records: list[Record], random: Random) -> str:
    paragraphs = []
    for one in records:
        facts = [
            _sentence(domain, field, one, random) for field in random.sample(fields, len(fields))
        ]
        who = capital(_who(domain, one))
        facts[1:] = [
            fact.replace(who, domain.pronoun) if random.random() < PRONOUN_SHARE else fact
            for fact in facts[1:]
        ]
        paragraphs.append(facts)
    for noise in random.sample(domain.noise, random.randint(0, len(domain.noise))):
        said = noise.format(
            number=random.randint(2, 400),
            name=domains.person(random),
            city=random.choice(domains.CITIES),
            date=domains.day_shown(domains.day(random), random),
        )
        random.choice(paragraphs).append(said)
    return random.choice(("\n", " ")).join(" ".join(facts) for facts in paragraphs)


def _sentence(domain: Domain, field: Field, one: Record, random: Random) -> str:
    value, who = one.values[field.name], _who(domain, one)

    def said(known: Any) -> str:
        if known is None:
            return capital(random.choice(field.unknown).format(who=who))
        shown = field.shown(known, random)
        return capital(random.choice(field.say).format(who=who, value=shown))

    other = _value(field, random)
    if random.random() < CORRECTED_SHARE and other != value:
        return f"It was noted first: {said(other)} That was a mistake. {said(value)}"
    return said(value)


def capital(sentence: str) -> str:
    """A sentence with its first letter a capital."""
    return sentence[:1].upper() + sentence[1:]


def _as_row(domain: Domain, text: str, which: str, wanted: Record, asked: list[Field]) -> Row:
    nouns = [
        field.noun if field.noun.startswith(("how", "whether")) else f"the {field.noun}"
        for field in asked
    ]
    listed = " and ".join(filter(None, (", ".join(nouns[:-1]), nouns[-1])))
    values = wanted.values | {domain.key.name: wanted.key}
    return {
        "text": text,
        "question": f"Of {which}, give {listed}.",
        "schema": domains.record(**{field.name: field.schema for field in asked}),
        "gold": {field.name: values[field.name] for field in asked},
        "compare": {
            f"/{field.name}{below}": mode for field in asked for below, mode in field.compare
        },
    }
