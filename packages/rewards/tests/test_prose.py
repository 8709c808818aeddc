"""Lines of sentences: they fit, they lose nothing, and no figure is torn."""

import pytest

from xmlgrpo_rewards.prose import fitted, line_ends, one_line, printable, width, without_paths


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        pytest.param("one two three", 20, ["one two three"], id="fits"),
        pytest.param("one two three", 13, ["one two three"], id="just-fits"),
        pytest.param("one two three", 12, ["one two", "three"], id="between-words"),
        pytest.param("takes about 64 s", 14, ["takes about", "64 s"], id="unit"),
        pytest.param("at most 95 % of it", 10, ["at most", "95 % of it"], id="percent"),
        pytest.param("training left 0:00:43", 14, ["training", "left 0:00:43"], id="time-left"),
        pytest.param(
            "strict 85.0% [81.6%, 87.9%]", 22, ["strict", "85.0% [81.6%, 87.9%]"], id="interval"
        ),
        pytest.param(
            "format 100.0%  worked 75.5%", 24, ["format 100.0%", "worked 75.5%"], id="share"
        ),
        pytest.param("asked (34 of 500) again", 12, ["asked", "(34 of 500)", "again"], id="count"),
        pytest.param("ends at step 4. Then more", 16, ["ends at step 4.", "Then more"], id="stop"),
        pytest.param(
            "see /a/long/path/name now", 8, ["see", "/a/long/path/name", "now"], id="path"
        ),
        pytest.param("1 2 3 4 5 6", 5, ["1 2 3", "4 5 6"], id="figures-wider-than-a-line"),
        pytest.param("问题 答案", 8, ["问题", "答案"], id="wide-characters"),
        pytest.param("one\n\ntwo three", 5, ["one", "", "two", "three"], id="paragraphs"),
        pytest.param("   deep inside", 10, ["   deep", "inside"], id="indented"),
        pytest.param("", 5, [""], id="nothing"),
    ],
)
def test_lines_end_between_figures(text: str, columns: int, lines: list[str]) -> None:
    assert fitted(text, columns).split("\n") == lines


def test_a_line_that_has_begun_has_less_room() -> None:
    assert line_ends("three four", 10, begun=4) == [6]
    assert line_ends("three", 10, begun=8) == [0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("two\n lines", "two lines", id="lines"),
        pytest.param("r \x1b[31m \u202e", "r \ufffd[31m \ufffd", id="what-steers-a-terminal"),
        pytest.param("1234567890", "1234567890", id="just-fits"),
        pytest.param("12345678901", "123456789…", id="too-long"),
        pytest.param("有多少天？", "有多少天？", id="chinese-just-fits"),
        pytest.param("三周有多少天？", "三周有多…", id="chinese-too-wide"),
    ],
)
def test_foreign_text_on_one_line(text: str, shown: str) -> None:
    assert one_line(text, 10) == shown


@pytest.mark.parametrize(("columns", "shown"), [(3, "ab…"), (1, "…"), (0, ""), (-4, "")])
@pytest.mark.timeout(20)
def test_a_line_without_room_ends(columns: int, shown: str) -> None:
    assert one_line("abcdef", columns) == shown


@pytest.mark.parametrize("columns", range(10, 60))
def test_nothing_is_lost_and_everything_fits(columns: int) -> None:
    text = "fits the 23.5 GiB of this machine's CPU, 21.3 GiB to spare (the counts were checked)"
    lines = fitted(text, columns).split("\n")
    assert " ".join(lines) == text
    assert all(width(line) <= columns for line in lines)


def test_printable_keeps_text_and_drops_what_steers_a_terminal() -> None:
    assert printable("a\n\tb三个苹果") == "a\n\tb三个苹果"
    assert printable("\x1b]0;title\x07\r\x9b") == "\ufffd]0;title\ufffd\ufffd\ufffd"
    assert printable("\u202e81\u202c \u206681\u2069") == "\ufffd81\ufffd \ufffd81\ufffd"
    assert printable("one\u2028two\u2029\ud800") == "one\ufffdtwo\ufffd\ufffd"
    assert printable("a\u034f\u180b\U000e0100\u2764\ufe0f") == "a\ufffd\ufffd\ufffd\u2764\ufe0f"
    assert len(one_line("Z" + "\u0301" * 100_000, 20)) == 21  # marks that take no column are few
    assert without_paths("see FILE:///home/me/x") == "see x"
    families = "\U0001f468\u200d\U0001f469 می\u200cروم"  # joiners are a part of the writing
    assert printable(families) == families


@pytest.mark.parametrize(
    ("value", "published"),
    [
        ("/home/ann/models/base", "base"),
        ("/home/ann/models/base/", "base"),
        (r"C:\Users\ann\base", "base"),
        ("google/gemma-3-1b-it", "google/gemma-3-1b-it"),
        ("/answer", "/answer"),
        ("../bases/mine", "mine"),
        ("./../ann/mine", "mine"),
        (r"..\ann\mine", "mine"),
        ("~/models/mine", "mine"),
        ("~ann/models/mine", "mine"),
        ("file:///home/ann/mine", "mine"),
        ("//home//ann//mine\n", "mine"),
        (r"\\server\ann\mine", "mine"),
        ("data.path=/home/ann/mine", "mine"),
        ("1/2", "1/2"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        ("a/b/c", "a/b/c"),
        ({"a": ["/home/ann/x", 1, None]}, {"a": ["x", 1, None]}),
        # within longer texts
        (
            "cannot read '/home/ann/my models/x.json': no such file",
            "cannot read 'x.json': no such file",
        ),
        ('loaded "C:\\Users\\ann\\base" in 3 s', 'loaded "base" in 3 s'),
        ("from C:\\\\Users\\\\ann\\\\base now", "from base now"),
        ("from D:/models/ann/base.gguf now", "from base.gguf now"),
        ("see file:///home/ann/x.md for more", "see x.md for more"),
        ("see file:///C:/Users/ann/x.md for more", "see x.md for more"),
        (
            "--config=/home/ann/a.yaml --run=~/runs/b data.path=~ann/c/d",
            "--config=a.yaml --run=b data.path=d",
        ),
        ("error:/home/ann/x: gone", "error:x: gone"),
        ("user@host:/home/ann/x", "user@host:x"),
        ("PATH=/home/ann/bin:/usr/local/bin", "bin"),
        ("a.txt and ../../ann/b.txt", "a.txt and b.txt"),
        ("outputs/../../ann/b.txt is it", "b.txt is it"),
        ("on \\\\server\\share\\ann\\x it", "on x it"),
        ("文件/home/ann/模型 不在", "文件模型 不在"),
        ("(/root/x/y), [/root/x/z]; {/mnt/q/r}", "(y), [z]; {r}"),
        ('{\\"base\\": \\"/home/ann/x\\"}', '{\\"base\\": \\"x\\"}'),
        ("line 1\n/home/ann/x/\nline 3", "line 1\nx\nline 3"),
        ("`/home/ann/x` was", "`x` was"),
        (
            "https://huggingface.co/google/gemma and http://a/b/c",
            "https://huggingface.co/google/gemma and http://a/b/c",
        ),
        ("</reasoning>\n<answer>\n5/6\n</answer>", "</reasoning>\n<answer>\n5/6\n</answer>"),
        ("he/she/they, and/or 3/4/5, km/h/s", "he/she/they, and/or 3/4/5, km/h/s"),
        (
            "f:\\mathbb{R}\\to\\mathbb{R} and \\frac{a}/b/c",
            "f:\\mathbb{R}\\to\\mathbb{R} and \\frac{a}/b/c",
        ),
        ("is 1/2 / 3/4 = 2/3", "is 1/2 / 3/4 = 2/3"),
        ("a \\\\ b \\\\hline c", "a \\\\ b \\\\hline c"),
        ("results/eval/test.json and docs/x", "results/eval/test.json and docs/x"),
        ("about ~5/6 of it", "about ~5/6 of it"),
        ("x = (a+b)/c/d", "x = (a+b)/c/d"),
        ("他/她们/它", "他/她们/它"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("hf://datasets/a/b", "hf://datasets/a/b"),
        ("google/gemma-3-1b-it at main", "google/gemma-3-1b-it at main"),
        ("The /answer is /b", "The /answer is /b"),
    ],
)
def test_paths_of_this_machine_are_cut(value, published):
    assert without_paths(value) == published
