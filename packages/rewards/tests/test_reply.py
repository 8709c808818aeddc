import random
import re
import sys
import unicodedata
from pathlib import Path

import pytest

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.hacks import hostile_texts
from xmlgrpo_rewards.reply import MAX_UNSEEN, SYSTEM, TAGS, Reply, messages, parse, render

GOOD = "<reasoning>\n16 - 3 = 13\n</reasoning>\n<answer>\n13\n</answer>"

# strict, soft, answer
CASES = [
    pytest.param(GOOD, True, True, "13", id="canonical"),
    pytest.param(f"{GOOD}\n", True, True, "13", id="newline-after"),
    pytest.param(GOOD.replace("13\n</r", "12\n\n13\n</r"), True, True, "13", id="many-lines"),
    pytest.param(GOOD.replace("16", "é苹😀\x00"), True, True, "13", id="any-characters"),
    pytest.param(GOOD.replace("16", "a < b > c </b>"), True, True, "13", id="other-angle-brackets"),
    pytest.param(f"{GOOD}\n\n", False, True, "13", id="two-newlines-after"),
    pytest.param(f"\n{GOOD}", False, True, "13", id="newline-before"),
    pytest.param(f"{GOOD} ", False, True, "13", id="space-after"),
    pytest.param(GOOD.replace("\n", ""), False, True, "13", id="one-line"),
    pytest.param(GOOD.replace("\n", "\r\n"), False, True, "13", id="carriage-returns"),
    pytest.param(GOOD.replace("\n<a", "\n\n<a"), False, True, "13", id="blank-line-between"),
    pytest.param(f"{GOOD}.", False, False, "13", id="text-after-answer"),
    pytest.param(f"So: {GOOD}", False, False, "13", id="text-before"),
    pytest.param(GOOD.replace("\n<a", "\nSo\n<a"), False, False, "13", id="text-between"),
    pytest.param(f"{GOOD}\n{GOOD}", False, False, None, id="twice"),
    pytest.param(f"{GOOD}\n<answer>\n14\n</answer>", False, False, None, id="second-answer"),
    pytest.param(GOOD.removesuffix("</answer>"), False, False, None, id="unclosed"),
    pytest.param(f"{GOOD}<reasoning>wait", False, False, None, id="reopened"),
    pytest.param(f"{GOOD}</reasoning>", False, False, None, id="reasoning-closed-at-the-end"),
    pytest.param("<answer>\n13\n</answer>", False, False, "13", id="no-reasoning"),
    pytest.param("<reasoning>\nx\n</reasoning>", False, False, None, id="no-answer"),
    pytest.param("<answer>1</answer><reasoning>x</reasoning>", False, False, None, id="reversed"),
    pytest.param("<reasoning><answer>1</answer></reasoning>", False, False, None, id="nested"),
    pytest.param("</answer>1<answer>", False, False, None, id="tags-the-wrong-way-round"),
    pytest.param(render("", "13"), False, False, "13", id="empty-reasoning"),
    pytest.param("<answer></answer>", False, False, "", id="nothing-in-the-answer"),
    pytest.param(render("x", ""), False, False, "", id="empty-answer"),
    pytest.param(render("\u200b\u2060", "13"), False, False, "13", id="invisible-reasoning"),
    pytest.param(render("x", "\ufeff"), False, False, "\ufeff", id="invisible-answer"),
    pytest.param(render("\u200bx", "13"), True, True, "13", id="partly-invisible-reasoning"),
    pytest.param(
        render("\u200b" * MAX_UNSEEN + "x", "13"), False, False, "13", id="flood-then-visible"
    ),
    pytest.param(render("理由", "13"), True, True, "13", id="chinese-reasoning"),
    pytest.param(render("٣", "13"), True, True, "13", id="a-digit-of-another-script"),
    pytest.param(render("x", "[]"), True, True, "[]", id="an-answer-of-signs"),
    pytest.param("", False, False, None, id="empty"),
    pytest.param("13", False, False, None, id="untagged"),
    pytest.param(GOOD.upper(), False, False, None, id="upper-case"),
    pytest.param(SYSTEM, False, False, "...", id="prompt-repeated"),
]


@pytest.mark.parametrize(("text", "strict", "soft", "answer"), CASES)
def test_parse(text: str, strict: bool, soft: bool, answer: str | None) -> None:
    read = parse(text)
    assert (read.strict, read.soft, read.answer) == (strict, soft, answer)
    assert read.text == text


def test_parse_gives_back_what_render_wrote() -> None:
    assert parse(render(" two\n\nlines ", "\t13 ")) == Reply(
        text="<reasoning>\ntwo\n\nlines\n</reasoning>\n<answer>\n13\n</answer>",
        reasoning="two\n\nlines",
        answer="13",
        strict=True,
        soft=True,
    )


def test_reasoning_is_none_unless_there_is_one() -> None:
    assert parse("<reasoning>a</reasoning><reasoning>b</reasoning>").reasoning is None


def test_the_prompt_shows_the_form_that_is_paid() -> None:
    assert parse(SYSTEM.partition("\n")[2].replace("...", "x")).strict
    assert [tag for tag in TAGS if SYSTEM.count(tag) == 1] == list(TAGS)


def test_messages_are_a_system_and_a_user_turn() -> None:
    assert messages("How many?") == [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "How many?"},
    ]


# The same definition as a regular expression: plain to read, and far too slow for 100 kB.
_INNER = r"(?:(?!</?(?:reasoning|answer)>).)*"
_FILLED = rf"(?=\s*[^\s<]){_INNER}"
_SOFT = re.compile(
    rf"\s*<reasoning>{_FILLED}</reasoning>\s*<answer>{_FILLED}</answer>\s*", re.DOTALL
)
_STRICT = re.compile(
    rf"<reasoning>\n{_FILLED}\n</reasoning>\n<answer>\n{_FILLED}\n</answer>\n?", re.DOTALL
)


def test_parse_agrees_with_the_regular_expressions_on_random_texts(draw: random.Random) -> None:
    parts = ["<reasoning>", "</reasoning>", "<answer>", "</answer>", "\n", "x", " "]
    skeleton = ["", parts[0], "\nx\n", parts[1], "\n", parts[2], "\nx\n", parts[3], ""]
    softs = stricts = 0
    for _ in range(30_000):
        pieces = list(skeleton)
        for _ in range(draw.randrange(4)):
            place = draw.randrange(len(pieces))
            pieces[place : place + draw.randrange(2)] = [draw.choice(parts)]
        text = "".join(pieces)
        read = parse(text)
        assert read.soft == bool(_SOFT.fullmatch(text)), text
        assert read.strict == bool(_STRICT.fullmatch(text)), text
        softs += read.soft
        stricts += read.strict
    assert softs > stricts > 1000


@pytest.mark.parametrize("text", hostile_texts(100_000).values(), ids=hostile_texts(1_000))
def test_parse_never_raises(text: str) -> None:
    read = parse(text)
    assert len(text) == 100_000
    assert read.soft or not read.strict
    assert read.text is text


def test_no_other_module_spells_the_tags() -> None:
    modules = Path(reply.__file__).parent.rglob("*.py")
    spelling = [m.name for m in modules if any(tag in m.read_text("utf-8") for tag in TAGS)]
    assert spelling == ["reply.py"]


CHARACTERS = [chr(point) for point in range(sys.maxunicode + 1)]
# letters by Unicode, and empty
FILLERS = "\u115f\u1160\u3164\uffa0\U00013441\U00013442"


BLANKS = f"{FILLERS}\u2800\U0001d159"  # the last two are signs


def in_bulk(characters: list[str]) -> list[str]:
    """Texts as long as are looked through, so that a million characters cost a thousand calls."""
    return [
        "".join(characters[start : start + MAX_UNSEEN])
        for start in range(0, len(characters), MAX_UNSEEN)
    ]


def test_reasoning_with_a_letter_or_digit_of_any_script_is_some() -> None:
    words = [c for c in CHARACTERS if _is_a_word(c)]
    assert [f"U+{ord(c):04X}" for c in words if not parse(render(c, "13")).strict] == []


def test_reasoning_without_a_letter_or_digit_is_empty_whatever_it_is_made_of() -> None:
    others = in_bulk([c for c in CHARACTERS if not _is_a_word(c)])
    assert [ascii(text) for text in others if parse(render(text, "13")).strict] == []
    assert all(parse(render(f"x{text}", "13")).strict for text in others)


def _is_a_word(character: str) -> bool:
    is_a_modifier = unicodedata.category(character) == "Lm" or character == "\ua78f"
    return character.isalnum() and character not in FILLERS and not is_a_modifier


def test_an_answer_that_cannot_be_seen_is_empty() -> None:
    unseen = in_bulk([c for c in CHARACTERS if unicodedata.category(c)[0] in "ZCM" or c in BLANKS])
    assert [ascii(text) for text in unseen if parse(render("x", text)).strict] == []
    assert all(parse(render("x", f"1{text}")).strict for text in unseen)


# What a page or a typesetter shows nothing of.
UNSEEN = [
    *("<b></b>", "<br/>", "<p>&nbsp;</p>", "<b title='a>b'>", "<b", "<table><tr><td></td></table>"),
    *("<!-- 3 + 4 -->", "<!-- never closed", "<![CDATA[x]]>", "<!DOCTYPE html>", "<?xml x?>"),
    *(
        "<script>let x = 1</script>",
        "<STYLE>p {color: red}</STYLE>",
        "<template><p>x</p></template>",
    ),
    *("<span hidden>x</span>", '<p style="display: none">x</p>', '<p style="font-size:0">x</p>'),
    *("<img src=x alt=y>", "<input value=x>", "<think> </think>", "<end_of_turn>", "&nbsp; &nbsp"),
    *("&#160;&#x200b;", "&zwj;&shy;", "&NewLine;&Tab;", "$ $", "$$$$", r"\( \)", r"\[ \]", "{}"),
    *(
        "\u02bc",
        "\u0640\u0640",
        "\ua4f8",
        "\ua78f",
        "\x1b[0m",
        "\x1b[8mthought\x1b[0m",
        "\x1b[1;8mx\x1b[28m",
    ),
    *("~~~text\n~~~", "[a]: http://x.y", "[a]: <thought> 'title'", "<font size=0>x</font>"),
    *("<i style='color:white'>x</i>", "<i style='color: rgba(0, 0, 0, 0)'>x</i>", "<rp>x</rp>"),
    *("<i style='visibility:collapse'>x</i>", "<p style='text-indent:-999px'>x</p>"),
    *(r"\penalty10000", r"\savebox{\x}{y}", r"\unicode{x200B}"),
    *(r"\phantom{x}", r"\phantom{\text{a} {b}}", r"\vphantom x", r"\hspace{1cm}", r"\vspace*{2em}"),
    *(r"\quad\qquad\,\ ~", r"\text{}", r"\mathrm{ }", r"\frac{}{}", r"\left.\right.", r"\\[3pt]"),
    *(r"\begin{align}\end{align}", r"\begin{array}{cc}\end{array}", r"\hskip 1em plus 2em"),
    *(r"\kern3pt", r"\rule{0pt}{3pt}", r"\label{eq:1}", r"\color{red}", r"\textcolor{red}{}"),
    *(r"{\color{white} x}", r"\textcolor{white}{x}", r"\newline \par", r"\usepackage{amsmath}"),
    *(r"\newcommand{\x}{y}", r"\def\x{y}", r"\includegraphics[width=3cm]{x}", r"\href{http://x}{}"),
    *("% 3 + 4", "% one\n% two", r"\iffalse x \fi", r"\begin{comment}x\end{comment}", r"\n\n"),
    *("```python\n```", "~~~\n~~~", "[//]: # (3 + 4)", "[](http://x.y)", "![](a.png)"),
    *("{# I add 3 and 4 #}", "{#- x -#}", "{% comment %}x{% endcomment %}", "{{! x }}"),
    *("{{!-- x --}}", "<%-- x --%>", "<%# x %>", "{/* x */}", "{::comment}x{:/comment}"),
    *("{: .note}", "[^1]: I add 3 and 4", "[^note]: x\n    more", "[a]: /url"),
    *("[a]: ./x.md", '[a]: x "the reasoning"', "[a]: <x>", "[a]: mailto:x@y.z"),
    *('[a]: http://x.y\n  "the reasoning"', "*[HTML]: Hyper Text", r"\scalebox{0}{x}"),
    *(r"\scalebox{0.0}[1]{x}", r"\resizebox{0pt}{0pt}{x}", r"\resizebox{0pt}{!}{\text{x}}"),
    *(r"\setbox0=\hbox{x}", r"\sbox{0}{x}", r"\sbox0{x}", r"\textcolor[rgb]{1,1,1}{x}"),
    *(r"\textcolor[gray]{1}{x}", r"\textcolor[HTML]{FFFFFF}{x}", r"\textcolor{White}{x}"),
    *(r"\textcolor{#fff}{x}", r"\textcolor{#FFFFFF}{x}", r"\textcolor{white!100}{x}"),
    *(r"{\color{white}{x}}", r"{\color{white} x {y} z}", r"\texttransparent{0}{x}"),
    *(r"\style{display:none}{x}", r"\style{opacity:0}{x}", r"\htmlStyle{display:none;}{x}"),
    *(r"\if0 x\fi", r"\ifnum0=1 x\fi", r"\iffalse x \else\fi", r"\gdef\x{y}"),
    *(r"\edef\x{y}", r"\newenvironment{x}{y}{z}", r"\DeclareMathOperator{\x}{y}"),
    *(r"\definecolor{x}{rgb}{1,1,1}", r"\colorlet{x}{y}", r"\newtheorem{a}{b}"),
    *(r"\newcounter{x}", r"\newlength{\x}", r"\newcommand{\x}[1]{y}", r"\newcommand*\x{y}"),
    *(r"\renewcommand{\x}[2][a]{y}", r"\def\x#1{y}", r"\markboth{a}{b}"),
    *(r"\bibliography{x}", r"\addcontentsline{toc}{section}{x}", r"\errmessage{x}"),
    *(r"\glossary{x}", r"\invisible{x}", r"\NewDocumentCommand{\x}{m}{y}"),
    *(r"\begin{filecontents}{a.tex}x\end{filecontents}",),
    *(r"\begin{comment} \begin{x} \end{comment}", r"\excludecomment{x}"),
    *(r"\begin{lrbox}{\x}y\end{lrbox}", r"\hphantom{a}\vphantom{b}"),
    *(r"\phantom{\frac{a}{b}}", r"\phantom x", r"\mathrlap{}", r"\mbox{}"),
    *(r"\tikzset{x=y}", r"\pgfkeys{x}", r"\href{x}{\phantom{y}}", r"\raisebox{1pt}{}"),
    *(r"\fboxsep=0pt", r"\hbox to 3pt{}", r"\vskip 3pt", r"\hspace*{\fill}"),
    *(r"\parskip 3pt", r"\parindent=0pt", r"\vrule width 0pt", r"\hrule height 0pt"),
    *("<div hidden><div></div>x</div>", '<div style="display:none"><div>a</div>b</div>'),
    *("<template><template></template>x</template>",),
    *("<details hidden><summary>x</summary>y</details>", "<noscript>x</noscript>"),
    *("<progress>x</progress>", "<meter>x</meter>"),
    *("<math><mphantom><mi>x</mi></mphantom></math>",),
    *("<math><annotation>x</annotation></math>", "<svg><desc>x</desc></svg>"),
    *("<svg><defs><text>x</text></defs></svg>", "<svg><metadata>x</metadata></svg>"),
    *('<p style="left:-9999px;position:absolute">x</p>',),
    *('<p style="margin-left:-9999px">x</p>', '<p style="height:0;overflow:hidden">x</p>'),
    *('<p style="max-height:0px; overflow: hidden">x</p>',),
    *('<p style="clip:rect(0,0,0,0)">x</p>', '<p style="clip-path: inset(50%)">x</p>'),
    *('<p style="content-visibility:hidden">x</p>', '<p style="opacity:0%">x</p>'),
    *('<p style="opacity: .0">x</p>', '<p style="color:#ffffff">x</p>'),
    *('<p style="color:rgb(255,255,255)">x</p>', '<p style="color:rgb(255 255 255)">x</p>'),
    *('<p style="color:hsl(0,0%,100%)">x</p>', '<p style="zoom:0">x</p>'),
    *('<p style="-webkit-text-fill-color: transparent">x</p>',),
    *('<p style="filter:opacity(0)">x</p>',),
    *('<p style="transform:translateX(-9999px)">x</p>',),
    *('<p style="transform: scale(0)">x</p>', "<font color=white>x</font>"),
    *('<font color="#fff">x</font>', "<table><tr hidden><td>x</td></tr></table>"),
    *("<input type=hidden value=x>", "<dialog>x</dialog>", "<object data=x>y</object>"),
    *('<script type="text/x">y</script>', "<xml>", "<o:p></o:p>"),
    *("<p style='display:none !important'>x</p>", '<p STYLE="DISPLAY:NONE">x</p>'),
    *('<p hidden="">x</p>', '<p hidden="hidden">x</p>', "<p hidden=until-found>x</p>"),
    *('<span class="hidden">x</span>', '<span style="font-size:0px">x</span>'),
    *('<span style="font-size:0.0em">x</span>', '<span style="font:0/0 a">x</span>'),
    *("| | |", "|---|:-:|", "---", "***", "```\n```", "~~~python\n~~~"),
    *("<!-- a --> <!-- b -->", "<!--> x -->", "<comment>x</comment>"),
    *("&#x200b;&zwnj;&lrm;", "&InvisibleTimes;&ApplyFunction;", "%% x %%", "% x\n%y"),
    *("$$ % x\n$$", r"\\ \\ ", r"\verb||", r"\lstinline||", r"\csname\endcsname"),
    *(r"{\color[rgb]{1,1,1}x}", r"{\transparent{0} x}", r"{\fontsize{0}{0}\selectfont x}"),
    *('<p title="a" hidden>x</p>',),
]
SEEN = [
    *(
        "<b>x</b>",
        "<i>理由</i>",
        "a < b",
        "x<y and y>z",
        "<b>1",
        "&lt;b&gt;",
        "&#65;",
        "<!-- a --> b",
    ),
    *(
        "<script></script>b",
        "<p hidden=false>x</p>",
        '<p style="opacity:0.5">x</p>',
        "{x}",
        "$3+4$",
    ),
    *("\u02bca", "\x1b[1mthought\x1b[0m", "\x1b[8mx\x1b[0m y", "[Step 1]: 18", "~~~\nx\n~~~"),
    *("<i style='background-color:white'>x</i>", "<font size=1>x</font>"),
    *(r"\text{hello}", r"\frac{3}{4}", r"\pi", r"\alpha + \beta", r"\Gamma", r"\phantom{x}y"),
    *(r"\textcolor{red}{yes}", r"\color{red} yes", r"\begin{array}{c}1\end{array}", r"\sqrt[3]{8}"),
    *(r"\vphantom xy", r"\rule{1pt}{2pt}z", r"\href{u}{x}", r"\boxed{18}", r"\\ 3", "50% of it"),
    *(
        "% note\nthen 3",
        r"\iffalse a \fi b",
        "```python\nx\n```",
        "[Step 1]: 3+4=7",
        "[x](http://y)",
    ),
    *("![alt](x.png)", "`x`", r"3 \% of"),
    *(r"\iff x", "<dialog open>x</dialog>", "<br hidden>x", '<p aria-hidden="true">x</p>'),
    *('<p style="color:white;background:black">x</p>', "<script><script></script>x"),
    *("<div hidden><div></div></div>x", '<p style="overflow: hidden">x</p>'),
    *('<p style="height: 9px; overflow: hidden">x</p>', '<p style="font-size:0.5em">x</p>'),
    *(r"\color{white}\color{black}x", r"\iffalse a \else b \fi", r"\scalebox{0.5}{x}"),
    *(r"\resizebox{3cm}{!}{x}", r"\textcolor[rgb]{1,0,0}{x}", r"\def\x{y} z"),
    *(r"\setbox0=\hbox{a}b", r"\style{color:red}{x}", r"\{#A\} = 3", "{x}", "{{x}}", "* x"),
    *("**x**", "[a]: b", "[Step 1]: add (3+4)", "see [^1]", "\n[^1]\n\n[^1]: note"),
    *(r"{\color{white} x} y", '<font color="red">x</font>', "<progress></progress>x"),
    *("{# a #} b", "*[a] b"),
]


@pytest.mark.parametrize("content", UNSEEN)
def test_markup_that_renders_as_nothing_is_empty(content: str) -> None:
    assert not parse(render(content, "13")).soft
    assert parse(render(f"so {content}", "13")).strict


@pytest.mark.parametrize("content", SEEN)
def test_markup_around_a_word_leaves_it(content: str) -> None:
    assert parse(render(content, "13")).strict


def test_markup_without_a_word_is_empty_however_it_is_put_together(draw: random.Random) -> None:
    closed = [content for content in UNSEEN if content not in ("<b", "<!-- never closed")]
    wraps = ["{}", "<p>\n{}\n</p>", "<a href='x'>\n{}\n</a>", "$$\n{}\n$$"]
    wraps += ["\\text{{\n{}\n}}", "\\phantom{{\n{}\n}}"]
    for _ in range(2_000):
        parts = [draw.choice(closed) for _ in range(draw.randrange(1, 6))]
        content = "\n".join(draw.choice(wraps).format(part) for part in parts)
        assert not parse(render(content, "13")).soft, content
        if "<think>" not in content:
            assert parse(render(f"{content}\nso", "13")).strict, content


@pytest.mark.parametrize("answer", ["{}", "[]", "+", "<", "$", "%", "\\", "&", "`", "*"])
def test_an_answer_of_a_sign_is_some(answer: str) -> None:
    assert parse(render("x", answer)).strict


@pytest.mark.parametrize("answer", ["<b></b>", "&nbsp;", "<!-- 13 -->", r"\phantom{13}"])
def test_an_answer_that_renders_as_nothing_is_empty(answer: str) -> None:
    assert not parse(render("x", answer)).soft
