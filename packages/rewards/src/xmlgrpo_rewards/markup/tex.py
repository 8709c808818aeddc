"""What LaTeX prints of a text: without commands, and the arguments that are not printed."""

import re
from collections.abc import Callable
from dataclasses import dataclass

_LENGTH = r"\s*=?\s*[-+]?\s*[\d.,]+\s*[a-z]{2}"
_OPTION = r"(?:\s*\[[^][{}\n]{0,40}\])"
_NOTHING = r"\{\s*(?:0+(?:\.0\d*)?|\.0\d*)\s*(?:[a-z]{2}\s*)?\}"
_ANY = r"\{[^{}]*\}"
_COLOUR = (
    r"(?i:\s*\[gray\]\s*\{\s*1(?:\.0*)?\s*\}|(?:\s*\[\w*\])?\s*"
    r"\{\s*(?:white(?:!\d+)?|transparent|\#?f{3}(?:f{3})?"
    r"|(?:1(?:\.0*)?|255)\s*,\s*(?:1(?:\.0*)?|255)\s*,\s*(?:1(?:\.0*)?|255))\s*\})"
)
_TOKEN = re.compile(
    rf"""
      (?P<note>%[^\n]*)
    | \\if(?:false|num|odd|x|dim|cat|case|void|eof)?(?![A-Za-z]).*?(?:\\(?:else|fi)(?![A-Za-z])|\Z)
    | \\begin\s*\{{(?P<unseen>comment|filecontents\*?|lrbox)\}}.*?(?:\\end\s*\{{(?P=unseen)\}}|\Z)
    | \\[hvm]?(?:kern|skip|glue){_LENGTH}(?:\s*(?:plus|minus)\s*[\d.]+\s*[a-z]+)*
    | \\(?:parskip|parindent|baselineskip|lineskip|fboxsep|fboxrule|tabcolsep|arraycolsep){_LENGTH}
    | \\[hv]rule(?:\s*(?:width|height|depth){_LENGTH})* | \\[hv]box\s*(?:to|spread){_LENGTH}
    | \\penalty\s*-?\d+
    | \\\\(?:\[[^]\n]{{0,20}}\])?                           # the end of a row
    | \\let\s*\\[A-Za-z]+\s*=?\s*(?:\\[A-Za-z]+|.)
    | \\(?P<rest>color{_COLOUR}|transparent\s*{_NOTHING}|fontsize\s*{_NOTHING}\s*{_ANY})
    | \\(?P<one>textcolor{_COLOUR}|texttransparent\s*{_NOTHING}|scalebox\s*{_NOTHING}{_OPTION}?
        |resizebox\*?\s*(?:{_NOTHING}\s*{_ANY}|{_ANY}\s*{_NOTHING})
        |[egx]?def\s*\\[A-Za-z@]+[^{{}}\\]*
        |(?:(?:re)?newcommand|providecommand|DeclareRobustCommand|DeclareMathOperator)\*?\s*\{{?\s*
            \\[A-Za-z@]+\s*\}}?{_OPTION}{{0,2}}
        |(?:New|Renew|Provide|Declare)DocumentCommand\s*\{{?\s*\\[A-Za-z@]+\s*\}}?\s*{_ANY}
        |setbox\s*(?:\d+|\\[A-Za-z]+)\s*=?\s*\\[hv]box(?:\s*(?:to|spread){_LENGTH})?
        |s(?:ave)?box\s*(?:\d|\\[A-Za-z]+|{_ANY}){_OPTION}{{0,2}}
        |begin\s*\{{(?:array|tabularx?|longtable|alignat|minipage|multicols)\*?\}})
    | \\(?P<two>(?:re)?newenvironment\*?\s*{_ANY}{_OPTION}{{0,2}})
    | \\(?P<css>(?:style|htmlStyle)\s*{_ANY})
    | \\(?P<name>[A-Za-z]+)\*?{_OPTION}? | \\. | (?P<brace>[{{}}])
    | (?P<text>[^\\%{{}}]+|\\\Z)
    """,
    re.VERBOSE | re.DOTALL,
)


def _all(names: str, arguments: int) -> dict[str, int]:
    return dict.fromkeys(names.split(), arguments)


# How many arguments of a command are not printed; of any other, none.
_UNPRINTED = {
    **_all(
        "phantom hphantom vphantom hspace vspace label color textcolor pagecolor colorbox begin "
        "end raisebox rotatebox href index glossary usepackage documentclass pagestyle "
        "thispagestyle input include require class cssId style title author date nocite "
        "bibliographystyle bibliography typeout message errmessage special includegraphics "
        "hypersetup columns write hypertarget lstset tikzset pgfkeys sisetup geometry graphicspath "
        "stepcounter transparent texttransparent unicode htmlData htmlClass htmlId htmlStyle "
        "newcounter newlength newsavebox newif excludecomment includecomment invisible scalebox "
        "markright fontfamily fontseries pdfliteral AtBeginDocument AtEndDocument pagenumbering",
        1,
    ),
    **_all(
        "rule fcolorbox setlength addtolength setcounter addtocounter fontsize pdfbookmark "
        "resizebox colorlet newtheorem markboth addtocontents PackageWarning pgfmathsetmacro",
        2,
    ),
    **_all("definecolor addcontentsline DeclarePairedDelimiter", 3),
}
_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega"
)
_GREEK = frozenset(_LETTERS.split())


@dataclass(slots=True)
class _Place:
    """Where in its groups and arguments a text is being read."""

    level: int = 0  # braces that are open
    pending: int = 0  # arguments to come that are not printed
    hidden: int | None = None  # the level of the group or argument that is not printed

    def is_printed(self, brace: str) -> bool:
        """Go through a brace; whether it is one of the printed text's own."""
        was_hidden = self.hidden is not None
        self.level += 1 if brace == "{" else -1
        if brace == "{" and self.pending and not was_hidden:
            self.hidden, self.pending = self.level, self.pending - 1
        elif self.hidden is not None and self.level < self.hidden:
            self.hidden = None
        return not was_hidden and self.hidden is None

    def after_arguments(self, text: str) -> str:
        """What is left of a text: without braces, each argument to come is one character."""
        left = text.lstrip()[self.pending :] if self.pending else text
        self.pending -= min(self.pending, len(text.strip()))
        return left


def printed(text: str, hides: Callable[[str], bool]) -> str:
    """What is printed: a command that is not known leaves its arguments, a Greek letter itself.

    Args:
        text: maybe LaTeX.
        hides: whether the style that a command names, in CSS, shows nothing.
    """
    place = _Place()
    return "".join(_printed(token, place, hides) for token in _TOKEN.finditer(text))


def _printed(token: re.Match[str], place: _Place, hides: Callable[[str], bool]) -> str:
    kind, words, name = token.lastgroup, token[0], token["name"]
    if kind == "brace":
        return words if place.is_printed(words) else ""
    if name == "color" and place.hidden == place.level:  # another colour in the same group
        place.hidden, place.pending = None, 1
    elif kind == "rest" and place.hidden is None:
        place.hidden = place.level
    elif place.hidden is not None:
        return ""
    elif kind == "text":
        return place.after_arguments(words)
    elif kind == "note":
        return "%"
    elif name and place.pending:
        place.pending -= 1
    elif kind is not None:
        place.pending = hides(words) if kind == "css" else _unprinted(kind, token)
        is_greek = bool(name) and name.removeprefix("var").lower() in _GREEK
        return name if is_greek else " "
    return ""


def _unprinted(kind: str, token: re.Match[str]) -> int:
    """How many arguments of a command are not printed."""
    if kind == "name":
        return _UNPRINTED.get(token["name"], 0)
    return {"one": 1, "two": 2}.get(kind, 0)
