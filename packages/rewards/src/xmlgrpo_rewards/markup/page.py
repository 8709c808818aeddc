"""What a page shows of a text: without HTML, Markdown's marks, comments and unseen elements.

Comments are those of HTML, Markdown and the template engines (Jinja, Handlebars, ERB, JSX).  Each
of them runs to the end where it is not closed, as in a browser, so that every character is read
once.
"""

import re
from html import unescape

MARKS = "<&`~[{*\x1b"

_MARK = re.compile(
    r"""
      <!--.*?(?:--!?>|\Z) | <[!?][^>]*(?:>|\Z)
    | </?(?P<element>[a-z][\w:-]*)(?P<attributes>(?:[^>"']++|"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))*+)
      (?:>|\Z)
    | <%.*?(?:%>|\Z) | \{\{!--.*?(?:--\}\}|\Z) | \{\{![^}]*\}?\}? | \{/\*.*?(?:\*/\}|\Z)
    | (?<![\\A-Za-z\]])\{\#.*?(?:\#\}|\Z) | \{%-?\s*comment\b.*?(?:endcomment\s*-?%\}|\Z)
    | \{::comment\}.*?(?:\{:/(?:comment)?\}|\Z) | \{:[^}\n]*\}?       # kramdown
    | (?m:^)[ ]{0,3}(?:```|~~~)[^\n`]*(?m:$)                         # a fence and its language
    | (?m:^)[ ]{0,3}\[\^[^]\s]{1,99}\]:[^\n]*(?:\n(?:[ ]{4}|\t)[^\n]*)*  # a note that nothing calls
    | (?m:^)[ ]{0,3}\*\[[^]\n]{1,99}\]:[^\n]*                         # an abbreviation
    | (?m:^)[ ]{0,3}\[[^]\n]{0,99}\]:[ ]*                             # a link's address
      (?:\#|<[^>\n]*>|/\S|\.{1,2}/|(?:https?|ftp|mailto|data|file|javascript):|www\.
        |\S+[ ]+["'](?=[^\n]*["'][ ]*(?m:$)))
      [^\n]*(?:\n[ ]*(?:"[^"\n]*"|'[^'\n]*')[ ]*(?m:$))?
    | \x1b\[(?:[\d;]*;)?8m.*?(?:\x1b\[(?:0|28)?m|\Z)      # a terminal's unseen text, its colours
    | \x1b\[[\d;?]*[ -/]*[@-~]
    | !?\[\s*\]\([^)\n]{0,200}\)                         # a link without a text
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_EMPTY_ELEMENTS = _names("area base br col embed hr img input link meta source track wbr")
_RAW_ELEMENTS = _names("script style title iframe noembed noframes")  # they hold no elements
_UNSEEN_ELEMENTS = _RAW_ELEMENTS | _names(
    "template head datalist object audio video canvas select dialog rp noscript progress meter "
    "param comment annotation annotation-xml mphantom defs desc metadata symbol clippath mask"
)
_NOTHING = r"(?:0+(?:\.0*)?|\.0+)(?![\d.])"
_WHITE = (
    r"(?:white|transparent)\b|\#f{3}(?:f|f{3}|f{5})?\b|\#f{3}0\b|\#[\da-f]{6}00\b"
    r"|rgba?\(\s*255[,\s]+255[,\s]+255|rgba\([^)]*[,/]\s*0?\.?0\s*\)|hsla?\([^,)]*,[^,)]*,\s*100%"
)
_HIDING = re.compile(
    rf"""
      (?<![-:\w])(?<!:\s)hidden\b(?!\s*=\s*["']?false)
    | display\s*:\s*none | (?:content-)?visibility\s*:\s*(?:hidden|collapse)
    | (?:opacity|font-size|font|zoom)\s*:\s*{_NOTHING} | \bsize\s*=\s*["']?0
    | (?:text-indent|left|right|top|bottom|margin[-a-z]*)\s*:\s*-\d{{3}}
    | (?:scale\w*|opacity)\(\s*{_NOTHING} | translate\w*\([^)]*-\d{{3}} | matrix\(\s*0\s*,
    | clip\s*:\s*rect\(\s*(?:0|1px) | inset\(\s*(?:50|100)% | circle\(\s*0
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FLAT = re.compile(rf"(?:width|height)\s*:\s*{_NOTHING}", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([a-z][\w:-]*)[^>]*", re.IGNORECASE)
_UNSEEN_COLOUR = re.compile(
    rf"(?<![-\w])(?:(?:-webkit-text-fill-)?color|fill)\s*[:=]\s*[\"']?(?:{_WHITE})", re.IGNORECASE
)


def shown(text: str) -> str:
    """The text without marks and without what is not shown, each of them a blank; LaTeX stays."""
    parts, start = [], 0
    while mark := _MARK.search(text, start):
        parts.append(text[start : mark.start()])
        start = mark.end()
        name = (mark["element"] or "").lower()
        if name and text[mark.start() + 1] != "/" and _is_unseen(name, mark["attributes"]):
            start = _end_of(name, text, start)
    return unescape(" ".join([*parts, text[start:]]))


def hides(style: str) -> bool:
    """Whether an attribute or a style shows nothing of what has it."""
    return _HIDING.search(style) is not None


def _is_unseen(name: str, attributes: str) -> bool:
    """Whether an element with these attributes shows nothing of what is in it."""
    if name in _EMPTY_ELEMENTS or (name == "dialog" and re.search(r"\bopen\b", attributes)):
        return False
    attributes = attributes.lower()
    return (
        name in _UNSEEN_ELEMENTS
        or hides(attributes)
        or ("overflow" in attributes and _FLAT.search(attributes) is not None)
        or ("background" not in attributes and _UNSEEN_COLOUR.search(attributes) is not None)
    )


def _end_of(name: str, text: str, start: int) -> int:
    """Where an element ends, with all of its name in it; the text's end where it is not closed."""
    depth = 1
    for tag in _TAG.finditer(text, start):
        if tag[2].lower() == name:
            depth = depth - 1 if tag[1] else depth + (name not in _RAW_ELEMENTS)
        if not depth:
            return min(tag.end() + 1, len(text))
    return len(text)
