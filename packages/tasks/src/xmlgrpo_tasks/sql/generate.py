"""Questions with certain golds: the query is made first, then said in words, then given data.

The databases of a row hold the very numbers that its query names; a row is kept when every query
one mistake away from the gold loses on one of them (`gold.mutants`), the gold gives something, and
not the same everywhere (`gold.fault_of`).
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from xmlgrpo_tasks.rows import Row, different_rows
from xmlgrpo_tasks.sql import engine
from xmlgrpo_tasks.sql.domains import FAMILIES, TABLES, Column, Table
from xmlgrpo_tasks.sql.gold import checked, fault_of
from xmlgrpo_tasks.sql.inserts import Insert, Value
from xmlgrpo_tasks.sql.rows import job_on

DATABASES = 2
TRIES = 12  # at data for one query
Level = Literal["easy", "full"]
EASY_CHARS = 60  # of the gold
ROWS = (6, 9)  # of a table
LACKING = 0.2  # share of NULLs in a column that may lack values
COMPARED = {
    ">": ("above {}", "more than {}"),
    ">=": ("at least {}", "{} or more"),
    "<": ("below {}", "less than {}"),
    "<=": ("at most {}", "{} or less"),
    "=": ("exactly {}",),
}
AGGREGATES = {"MAX": "highest", "MIN": "lowest", "SUM": "total", "AVG": "average"}


# part of a query -> how it begins in SQL, and in words
CLAUSES = {
    "give": ("SELECT", "give"),
    "source": ("FROM", "From"),
    "keep": ("WHERE", "keep"),
    "group": ("GROUP BY", "group by"),
    "having": ("HAVING", "keep groups with"),
    "order": ("ORDER BY", "sort by"),
    "limit": ("LIMIT", "take the first"),
}


@dataclass(slots=True)
class Draft:
    """A problem while it is being made."""

    rng: random.Random
    tables: list[Table]
    named: dict[str, list[Value]] = field(default_factory=dict)  # column -> values it must hold

    @property
    def table(self) -> Table:
        """The table that is asked about."""
        return self.tables[-1]

    def some(self, *ways: str) -> str:
        """One of these ways to say it."""
        return self.rng.choice(ways)

    def number(self, *, known: bool = False) -> Column:
        """A number column; a known one has no NULLs, whose place in an order no words settle."""
        numbers = [column for column in self.table.columns if column.is_number]
        return self.rng.choice([one for one in numbers if not (known and one.may_lack)])

    def category(self) -> Column:
        """The column whose values come up again and again."""
        return next(c for c in self.table.columns if not c.is_number and not c.unique)

    def value(self, column: Column) -> Any:
        """A value that the column will hold, with its neighbours, in every database."""
        place = self.rng.randrange(1, len(column.values) - 1)
        self.named.setdefault(column.name, []).extend(column.values[place - 1 : place + 2])
        return column.values[place]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the query that answers it, clause by clause."""

    words: str
    give: str
    source: str
    keep: str = ""
    group: str = ""
    having: str = ""
    order: str = ""
    limit: int = 0

    def sql(self) -> str:
        """The query."""
        return " ".join(
            f"{verb} {what}" for part, (verb, _) in CLAUSES.items() if (what := getattr(self, part))
        )

    def plan(self) -> str:
        """The way to the query in words, as it may stand in the reasoning: `give` comes last."""
        (give, (_, verb)), *others = CLAUSES.items()
        said = [f"{way} {what}" for part, (_, way) in others if (what := getattr(self, part))]
        return ", ".join([*said, f"{verb} {getattr(self, give)}"]) + "."


def comparison(draft: Draft, column: Column) -> tuple[str, str]:
    """A condition on a number, in words and in SQL."""
    sign = draft.some(*COMPARED)
    value = draft.value(column)
    words = draft.some(*COMPARED[sign]).format(value)
    return f"{column.words} is {words}", f"{column.name} {sign} {value}"


def condition(draft: Draft) -> tuple[str, str]:
    """A condition on one column."""
    number, category = draft.number(), draft.category()
    one, other = draft.rng.sample(list(category.values), 2)
    way = draft.rng.randrange(8)
    if way < 2 and number.may_lack:
        lacks = draft.rng.random() < 0.5
        words = f"{number.words} is {'not known' if lacks else 'known'}"
        return words, f"{number.name} IS {'NULL' if lacks else 'NOT NULL'}"
    if way < 2 and number.type == "INTEGER":
        low, high = sorted((draft.value(number), draft.value(number)))
        words = f"{number.words} is from {low} to {high}, both included"
        return words, f"{number.name} BETWEEN {low} AND {high}"
    if way < 5:
        return comparison(draft, number)
    draft.named[category.name] = [one, other, one]
    if way == 5:
        return f"{category.words} is {one}", f"{category.name} = '{one}'"
    if way == 6:
        return f"{category.words} is not {one}", f"{category.name} <> '{one}'"
    return f"{category.words} is {one} or {other}", f"{category.name} IN ('{one}', '{other}')"


def conditions(draft: Draft) -> tuple[str, str]:
    """One condition or two."""
    words, sql = condition(draft)
    if draft.rng.random() < 0.5:
        return words, sql
    more_words, more_sql = condition(draft)
    if more_sql.split()[0] == sql.split()[0]:
        return words, sql
    if draft.rng.random() < 0.3:
        return f"{words}, or whose {more_words}", f"{sql} OR {more_sql}"
    return f"{words} and whose {more_words}", f"{sql} AND {more_sql}"


def listing(draft: Draft) -> Asked:
    """The names of what meets a condition, alone or with another column."""
    table, (words, keep) = draft.table, conditions(draft)
    first, other = table.columns[0], draft.rng.choice(table.columns[1:])
    if draft.rng.random() < 0.5:
        said = f"Give the {first.words} and the {other.words} of every {table.thing}"
        return Asked(f"{said} whose {words}.", f"{first.name}, {other.name}", table.name, keep)
    return Asked(
        draft.some(
            f"Give the {first.words} of every {table.thing} whose {words}.",
            f"List each {table.thing} by its {first.words} whose {words}.",
        ),
        first.name,
        table.name,
        keep,
    )


def counting(draft: Draft) -> Asked:
    """How many rows meet a condition."""
    table, (words, keep) = draft.table, conditions(draft)
    return Asked(
        draft.some(
            f"How many rows of {table.name} are there whose {words}?",
            f"Count the {table.name} whose {words}.",
        ),
        "COUNT(*)",
        table.name,
        keep,
    )


def aggregate(draft: Draft) -> Asked:
    """The highest, lowest, total or average of a column."""
    table, number = draft.table, draft.number()
    name, said = draft.rng.choice(list(AGGREGATES.items()))
    give = f"{name}({number.name})"
    if draft.rng.random() < 0.3:
        return Asked(f"What is the {said} {number.words} of all {table.name}?", give, table.name)
    words, keep = condition(draft)
    question = f"What is the {said} {number.words} of the {table.name} whose {words}?"
    return Asked(question, give, table.name, keep)


def different(draft: Draft) -> Asked:
    """The values of a category, each once, or how many there are."""
    table, category, (words, keep) = draft.table, draft.category(), conditions(draft)
    if draft.rng.random() < 0.5:
        said = f"Which values of {category.words} occur among the {table.name} whose {words}?"
        return Asked(f"{said} Give each once.", f"DISTINCT {category.name}", table.name, keep)
    said = f"How many different values of {category.words} are there"
    question = f"{said} among the {table.name} whose {words}?"
    return Asked(question, f"COUNT(DISTINCT {category.name})", table.name, keep)


def groups(draft: Draft) -> Asked:
    """A number for each value of a category, of all of them or of the large ones."""
    table, category, number = draft.table, draft.category(), draft.number()
    name, said = draft.rng.choice([("COUNT", ""), *AGGREGATES.items()])
    give = f"{name}({number.name})" if said else "COUNT(*)"
    what = f"the {said} {number.words}" if said else f"the number of {table.name}"
    each = f"For each {category.words} give the {category.words} and {what}"
    if draft.rng.random() < 0.5:
        return Asked(f"{each}.", f"{category.name}, {give}", table.name, group=category.name)
    sign, least = draft.rng.choice([(">", "more than"), (">=", "at least")])
    few = draft.rng.choice((1, 2))
    return Asked(
        f"{each}, but only where there are {least} {few} {table.name}.",
        f"{category.name}, {give}",
        table.name,
        group=category.name,
        having=f"COUNT(*) {sign} {few}",
    )


def sorting(draft: Draft) -> Asked:
    """Names in an order that leaves nothing open."""
    table, number = draft.table, draft.number(known=True)
    first, down = table.columns[0], draft.rng.random() < 0.5
    way, end = (" DESC", "highest") if down else ("", "lowest")
    words, keep = condition(draft) if draft.rng.random() < 0.4 else ("", "")
    which = f"{table.name} whose {words}" if words else f"{table.name}"
    order = f"{number.name}{way}, {first.name}"
    ties = f"where the {number.words} is the same, by {first.words} from A to Z"
    if draft.rng.random() < 0.5:
        few = draft.rng.choice((1, 2, 3))
        several = f"{few} {which}" if few > 1 else which.replace(table.name, table.thing, 1)
        return Asked(
            f"Give the {first.words} of the {several} with the {end} {number.words}, the {end} "
            f"first; {ties}.",
            *(first.name, table.name, keep),
            order=order,
            limit=few,
        )
    return Asked(
        f"Give the {first.words} of all {which}, the {end} {number.words} first; {ties}.",
        *(first.name, table.name, keep),
        order=order,
    )


def against_all(draft: Draft) -> Asked:
    """What is above the average, or holds the record."""
    table, number, first = draft.table, draft.number(), draft.table.columns[0]
    said = f"Give the {first.words} of every {table.thing}"
    if draft.rng.random() < 0.5:
        sign, side = draft.rng.choice([(">", "above"), ("<", "below")])
        inner = f"(SELECT AVG({number.name}) FROM {table.name})"
        question = f"{said} whose {number.words} is {side} the average of all {table.name}."
        return Asked(question, first.name, table.name, f"{number.name} {sign} {inner}")
    name, end = draft.rng.choice([("MAX", "highest"), ("MIN", "lowest")])
    inner = f"(SELECT {name}({number.name}) FROM {table.name})"
    question = f"{said} that has the {end} {number.words} of all {table.name}."
    return Asked(question, first.name, table.name, f"{number.name} = {inner}")


def link(draft: Draft) -> str:
    """How the second table hangs on the first."""
    whole, part = draft.tables
    return f"{whole.name}.id = {part.name}.{part.part_of}_id"


def group_of_wholes(draft: Draft) -> tuple[str, str]:
    """A condition on the first table, in words about the second, and in SQL."""
    whole, _ = draft.tables
    group = whole.columns[1]
    value = draft.rng.choice(list(group.values))
    draft.named[group.name] = [value]
    words = f"whose {whole.thing} has the {group.words} {value}"
    return words, f"{whole.name}.{group.name} = '{value}'"


def parts_of_some(draft: Draft) -> Asked:
    """Rows of the second table by a condition on the first, or a number about them."""
    whole, part = draft.tables
    words, keep = group_of_wholes(draft)
    both = f"{part.name} JOIN {whole.name} ON {link(draft)}"
    first, number = part.columns[0], draft.number()
    if draft.rng.random() < 0.5:
        question = f"Give the {first.words} of every {part.thing} {words}."
        return Asked(question, f"{part.name}.{first.name}", both, keep)
    name, said = draft.rng.choice(list(AGGREGATES.items()))
    question = f"What is the {said} {number.words} of the {part.name} {words}?"
    return Asked(question, f"{name}({part.name}.{number.name})", both, keep)


def wholes_with_parts(draft: Draft) -> Asked:
    """Rows of the first table that have some of the second, or none."""
    whole, part = draft.tables
    owner = whole.columns[0]
    asked = f"Give the {owner.words} of every {whole.thing}"
    if draft.rng.random() < 0.5:
        inner = f"id NOT IN (SELECT {part.part_of}_id FROM {part.name})"
        return Asked(f"{asked} that has no {part.thing}.", owner.name, whole.name, inner)
    said, keep = comparison(draft, draft.number())
    inner = f"id IN (SELECT {part.part_of}_id FROM {part.name} WHERE {keep})"
    question = f"{asked} that has a {part.thing} whose {said}, each once."
    return Asked(question, owner.name, whole.name, inner)


def numbers_of_wholes(draft: Draft) -> Asked:
    """A number for each row of the first table, about its rows of the second."""
    whole, part = draft.tables
    owner, number, group = whole.columns[0], draft.number(), f"{whole.name}.id"
    give = f"{whole.name}.{owner.name}"
    if draft.rng.random() < 0.5:
        said = f"the {owner.words} and the number of its {part.name}"
        return Asked(
            f"For each {whole.thing} give {said}, 0 where it has none.",
            f"{give}, COUNT({part.name}.id)",
            f"{whole.name} LEFT JOIN {part.name} ON {link(draft)}",
            group=group,
        )
    name, said = draft.rng.choice(list(AGGREGATES.items()))
    said = f"the {owner.words} and the {said} {number.words} of its {part.name}"
    return Asked(
        f"For each {whole.thing} with any {part.name} give {said}.",
        f"{give}, {name}({part.name}.{number.name})",
        f"{part.name} JOIN {whole.name} ON {link(draft)}",
        group=group,
    )


def easy(draft: Draft) -> Asked:
    """One short question about a small table."""
    table = draft.table
    first, category, number = table.columns[0], draft.category(), draft.number()
    if draft.rng.random() < 0.6:
        words, keep = comparison(draft, number)
    else:
        value = draft.rng.choice(list(category.values))
        draft.named[category.name] = [value] * 2
        words, keep = f"{category.words} is {value}", f"{category.name} = '{value}'"
    way = draft.rng.randrange(4)
    if way == 0:
        return Asked(
            f"How many {table.name} are there whose {words}?", "COUNT(*)", table.name, keep
        )
    if way == 1:
        name = draft.some("MAX", "MIN")
        said = f"What is the {AGGREGATES[name]} {number.words} of {table.name}"
        if draft.rng.random() < 0.3:
            return Asked(f"{said}?", f"{name}({number.name})", table.name)
        return Asked(f"{said} whose {words}?", f"{name}({number.name})", table.name, keep)
    asked_for = [column for column in table.columns if column.name != keep.split()[0]]
    column = draft.rng.choice([first, *asked_for])
    return Asked(
        f"Give the {column.words} of {table.name} whose {words}.", column.name, table.name, keep
    )


ONE_TABLE = (listing, counting, aggregate, different, groups, sorting, against_all)
TWO_TABLES = (parts_of_some, wholes_with_parts, numbers_of_wholes)


def generated(count: int, seed: int, level: Level = "full") -> Iterator[Row]:
    """`count` rows, no two with the same schema and question; the same for the same seed.

    Args:
        count: how many.
        seed: of the random choices.
        level: `easy` asks one short question about one table and shows no rows.
    """
    if level not in get_args(Level):
        raise ValueError(f"expected one of the levels {get_args(Level)}, got {level!r}")
    rng = random.Random(f"{level} {seed}")  # noqa: S311 - no secret depends on it
    rows = different_rows(count, ("schema", "question"), lambda _seen: _row(rng, level))
    for number, row in enumerate(rows, start=1):
        yield {"id": f"{level}-{seed}-{number}", **row}


def _row(rng: random.Random, level: Level) -> Row | None:
    """One row, or None where its mistakes cannot be told apart."""
    ask: Callable[[Draft], Asked]
    if level == "easy":
        tables, ask = [_narrowed(rng.choice(TABLES), rng)], easy
    elif rng.random() < 0.3:
        tables, ask = list(rng.choice(FAMILIES)), rng.choice(TWO_TABLES)
    else:
        tables, ask = [rng.choice(TABLES)], rng.choice(ONE_TABLE)
    draft = Draft(rng, tables)
    asked = ask(draft)
    gold = asked.sql()
    if level == "easy" and len(gold) > EASY_CHARS:
        return None
    row: Row = {
        "schema": ";\n".join(_ddl(table, keyed=len(tables) > 1) for table in tables),
        "question": asked.words,
        "gold": gold,
        "ordered": bool(asked.order),
        "solution": asked.plan(),
    }
    if level == "easy":
        row["shown"] = 0
    for _ in range(TRIES):
        databases = [_filled(draft) for _ in range(DATABASES)]
        data = [";\n".join(insert.text() for insert in inserts) for inserts in databases]
        told = "\n".join([row["schema"], *data])
        check = checked(job_on(databases, told, row["schema"], gold, ordered=row["ordered"]))
        if fault_of(check, engine.run(check)) is None:
            return {**row, "data": data}
    return None


def _narrowed(table: Table, rng: random.Random) -> Table:
    """The same table with one number column or both, in any order, and without NULLs."""
    first, category, *numbers = (replace(column, may_lack=False) for column in table.columns)
    others = [category, *rng.sample(numbers, rng.randint(1, len(numbers)))]
    return replace(table, columns=(first, *rng.sample(others, len(others))))


def _ddl(table: Table, *, keyed: bool) -> str:
    columns = [f"{column.name} {column.type}" for column in table.columns]
    if table.part_of:
        columns.insert(0, f"{table.part_of}_id INTEGER")
    if keyed:
        columns.insert(0, "id INTEGER PRIMARY KEY")
    return f"CREATE TABLE {table.name} ({', '.join(columns)})"


def _filled(draft: Draft) -> list[Insert]:
    """Rows for every table; what the query names is among the values where there is room."""
    rng, inserts, owners = draft.rng, [], 0
    for table in draft.tables:
        count = rng.randint(*ROWS)
        columns = [_column(draft, column, count) for column in table.columns]
        if table.part_of:
            columns.insert(0, rng.choices(range(1, owners + 1), k=count))
        if len(draft.tables) > 1:
            columns.insert(0, list(range(1, count + 1)))
        rows = [list(row) for row in zip(*columns, strict=True)]
        inserts.append(Insert(table.name, (), rows))
        owners = count
    return inserts


def _column(draft: Draft, column: Column, count: int) -> list[Value]:
    rng = draft.rng
    if column.unique:
        return rng.sample(list(column.values), count)
    values = rng.choices(column.values, k=count)
    named = draft.named.get(column.name, [])
    for place, value in zip(rng.sample(range(count), count), named, strict=False):
        values[place] = value
    if column.may_lack:
        values = [None if rng.random() < LACKING else value for value in values]
    return values
