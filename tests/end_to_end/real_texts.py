"""Questions that a tokenizer written down wrongly splits otherwise."""

FAMILY = "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL}\u200d\N{BOY}"
FLAG = "\N{WAVING WHITE FLAG}\ufe0f\u200d\N{RAINBOW}"

TEXTS = {
    # scripts
    "english": "Natalia sold clips to 48 friends in April, and half as many in May. How many?",
    "chinese": "3个苹果共9元，7个苹果多少钱？“请”一步一步地算——谢谢！",
    "chinese-traditional": "小明有１２顆糖，給了小華三分之一，還剩幾顆？",
    "japanese": "太郎は12個のりんごを3人で分けます。一人何個ですか？ｶﾀｶﾅ",
    "korean": "사과 3개가 9원이면 7개는 얼마입니까?",
    "arabic": "إذا كان ثمن ٣ تفاحات ٩ دنانير، فكم ثمن ٧ تفاحات؟ ﷺ",
    "hebrew-with-points": "כַּמָּה הֵם 3 וְ־4?",
    "hindi": "नमस्ते, यदि 3 सेब ₹9 के हैं तो 7 सेब कितने के होंगे? क्षत्रिय",
    "thai": "แอปเปิล 3 ผลราคา 9 บาท 7 ผลราคาเท่าไร ก็ตาม",
    "russian": "У Вани 12 яблок; он съел ¾. Сколько осталось?",
    "vietnamese": "Nếu 3 quả táo giá 9 đồng thì 7 quả giá bao nhiêu?",
    "accents-composed": "Café, naïve, Zürich, Łódź, Ærøskøbing: how many cities?",
    "accents-combined": "Cafe\u0301, nai\u0308ve, Z\u0301u\u0308 a\u0300\u0301\u0302: how many?",
    "ligatures-and-widths": "ﬁve ﬂoors ① ② Ⅳ ℌ 𝟙𝟚 𝕏 ½ ⅞ ｆｕｌｌ",
    # emoji
    "emoji": "🦙 has 3 🍎, 🐼 has 4 🍎. How many 🍎?",
    "emoji-joined": f"{FAMILY} and {FLAG}: 👩🏽‍🚀 has 5, 👨‍👩‍👧 have 6.",
    "emoji-flags": "🇩🇪🇫🇷🇨🇳 and one half: 🇩",
    "emoji-selectors": "❤ ❤️ ☺︎ ☺️ 1️⃣ #️⃣",
    # runs
    **{f"blanks-{n}": f"a{' ' * n}b" for n in (2, 3, 15, 30, 31, 32, 33, 64, 100)},
    **{f"newlines-{n}": "a" + "\n" * n + "b" for n in (2, 3, 30, 31, 32, 33, 70)},
    **{f"tabs-{n}": "a" + "\t" * n + "b" for n in (1, 2, 8, 31, 40)},
    "blanks-before-words": "\n".join(" " * n + "x" for n in range(12)),
    "blanks-at-line-ends": "one  \ntwo   \n   three\n \nfour",
    "mixed-space": "a \n b\t \n\t c \r\n d\r e \u00a0 f \u3000 g \u2009 h \u200b i \ufeff \u2028 j",
    "begins-and-ends-with-space": "  \n How many are 2 and 3?\t\n ",
    "repeated-signs": "=" * 70 + "\n" + "-" * 33 + "\n" + "." * 50 + "#" * 17 + "0" * 41,
    # numbers and formulas
    "numbers": "1234567890 1,234,567.89 -3.5e-7 0x1F ٣٤٥ 三百 1'000 12.345.678,90 ½ 10^12 007",
    "money": "€5, £4.99, ¥500, ₹1,00,000, $1.20¢; 25% of $40?",
    "signs": "3 − 2 × 4 ÷ 5 ≠ ± ≤ ∑∫√ π≈3.14159",
    "latex": r"Let $x=\frac{1}{2}$, \(y^{2}\ge 3\) and \[\sum_{i=1}^{n} i=\tfrac{n(n+1)}{2}\]. "
    r"What is \boxed{x}?\\ \text{in \% } \begin{aligned}a&=b\\c&=d\end{aligned}",
    "code": "def f(x):\n    if x > 0:\n        return [x**2 for x in range(10)]\n\treturn 0  # ok",
    "json": '{"a": [1, 2.5, null], "b": {"c": "\\u00e9\\n"}}',
    "url": "https://example.org/a_b/c?d=e%20f&g=%E4%BD%A0#h",
    # what looks like markup
    "our-tags": "<b>tags</b> & <reasoning> inside </reasoning>, <answer>7</answer>",
    "html": "<table><tr><td>1</td></tr></table><h1>2</h1><br/><p><strong>3</strong></p>",
    "turns-in-text": "Say <start_of_turn>user and <end_of_turn>\n<start_of_turn>model\n5",
    "broken-turns": "<start_of_turn <start_of_turn> <startofturn> < end_of_turn>",
    "other-control-tokens": "<eos> <pad> <unk> <mask> <unused7> [multimodal] <start_of_image>",
    "bytes-in-text": "<0x0A><0xE2><0x80> \\x0a \\n",
    "other-families": "<|im_start|>user <|endoftext|> [INST] <<SYS>> <s></s> [@BOS@]",
    "template-in-text": "{{ bos_token }} {% raw %} {{ 7 * 7 }} {# note #} ${x} %s {0}",
    # bytes
    "control-characters": "a\x01b\x07c\x1b[31md\x7fe\x85f",
    "rare-characters": "\U0010ffff \ue000 \U0001f9ff \u0378 𓀀 𠜎 \ufffd",
    "directions": "\u202e3 apples\u202c \u2066and\u2069 7 \u200f\u200e",
    # the block character that SentencePiece writes for a blank, between letters
    "lower-one-eighth-block": "a▁b ▂▃▄▅▆▇█",
    # length
    "long-english": " ".join(f"Tom buys {n} pens at ${n}.{n % 10}0 each." for n in range(1, 40)),
    "long-chinese": "小明买了三支笔，每支两元五角；" * 40,
    "long-word": "supercalifragilistic" * 30,
}

# SentencePiece's sign for a blank, beside a blank or itself: llama.cpp reads two, transformers one
DIFFERENT_IN_LLAMA_CPP = {
    "sparkline": "Rain a day: ▁▂▃▅▇. How many days?",
    "two-lower-one-eighth-blocks": "a▁▁b",
}
# What such a question says would be read as markup, or has no row in the embedding table
REFUSED_IN_TRAINING = {
    "bos": ("How many <bos> are there?", "holds 2 <bos> tokens"),
    "image": ("What is in <image_soft_token>?", "<image_soft_token>"),
}
