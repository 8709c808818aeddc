"""The licence is the base model's, wherever that is said."""

import pytest

from xmlgrpo_exporter.card.card import with_card
from xmlgrpo_exporter.publish.base_and_licence import HUB_LICENCES, BaseModel, find_licence
from xmlgrpo_rewards.errors import UserError

from ..cards import card_of, metadata, no_card, prepared


@pytest.mark.parametrize(
    ("base", "card", "expected"),
    [
        pytest.param(
            BaseModel("google/gemma-3-1b-it"), None, "gemma", id="gemma-by-name-when-offline"
        ),
        pytest.param(
            BaseModel("unsloth/gemma-3-4b-it-bnb-4bit"), None, "gemma", id="gemma-repacked"
        ),
        pytest.param(
            BaseModel("google/gemma-3-1b-it"), {"license": "gemma"}, "gemma", id="gemma-by-card"
        ),
        pytest.param(
            BaseModel("google/gemma-4-1b"), {"license": "apache-2.0"}, "apache-2.0", id="its-own"
        ),
        pytest.param(
            BaseModel("Qwen/Qwen2.5-1.5B"), {"license": "apache-2.0"}, "apache-2.0", id="qwen"
        ),
        pytest.param(
            BaseModel("meta/x"), {"license": ["llama3.2"]}, "llama3.2", id="a-list-of-one"
        ),
        pytest.param(
            BaseModel("meta-llama/Llama-3.2-1B-Instruct"), None, "llama3.2", id="llama-by-name"
        ),
        pytest.param(BaseModel("TinyLlama/TinyLlama-1.1B"), None, "unknown", id="a-llama-in-shape"),
        pytest.param(BaseModel("some/model"), None, "unknown", id="nobody-knows"),
        pytest.param(BaseModel("some/model"), {}, "unknown", id="card-without-licence"),
        pytest.param(BaseModel(), None, "unknown", id="no-base"),
        pytest.param(
            BaseModel(architecture="Gemma3ForCausalLM"), None, "gemma", id="gemma-by-architecture"
        ),
        pytest.param(
            BaseModel(architecture="Gemma3ForCausalLM", tiny=True), None, "mit", id="ours"
        ),
        pytest.param(
            BaseModel(architecture="gemma4"), None, "unknown", id="gemma-4-has-other-terms"
        ),
        pytest.param(BaseModel(architecture="gemma3n"), None, "gemma", id="gemma-3n"),
        pytest.param(BaseModel(architecture="LlamaForCausalLM"), None, "unknown", id="llama"),
    ],
)
def test_the_licence(base, card, expected):
    licence = find_licence(base, lambda hub_id: card)
    assert licence.id == expected
    assert (licence.notice is not None) == expected.startswith(("gemma", "llama"))


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        pytest.param("Apache-2.0", ("apache-2.0", None), id="written-large"),
        pytest.param("openrail++", ("openrail++", None), id="with-signs"),
        pytest.param("house-1.0", ("other", "house-1.0"), id="not-the-hub-s"),
        pytest.param(
            "Qwen Research License (2)", ("other", "qwen-research-license-2"), id="a-name"
        ),
        pytest.param("other", ("other", None), id="other"),
        pytest.param({"a": "b"}, ("unknown", None), id="a-mapping"),
        pytest.param("<script>", ("unknown", None), id="markup"),
        pytest.param("\x1b[2J", ("unknown", None), id="steers-a-terminal"),
        pytest.param(["x" * 200], ("unknown", None), id="very-long"),
    ],
)
def test_a_licence_on_the_hub_s_card_stops_nothing_and_is_one_that_the_hub_takes(stated, expected):
    licence = find_licence(BaseModel("some/model"), lambda _hub_id: {"license": stated})
    assert (licence.id, licence.name) == expected
    assert licence.id in HUB_LICENCES
    assert "<" not in licence.source


ALIASES = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param("license: mit\nx: [", "mit", id="broken-elsewhere"),
        pytest.param("license:\n- mit\nx: !!python/name:os.system", "mit", id="a-tag-elsewhere"),
        pytest.param(f"license: mit\na: {'[' * 3000}", "mit", id="depth-elsewhere"),
        pytest.param(f"{ALIASES}license: mit", "mit", id="aliases-elsewhere"),
        pytest.param(f"license: mit\n{'model-index: x' * 100_000}", "mit", id="a-megabyte"),
        pytest.param(f"{ALIASES}license: *a8", "unknown", id="an-alias"),
        pytest.param("- a", "unknown", id="a-list"),
        pytest.param("x", "unknown", id="a-word"),
        pytest.param("license: [", "error", id="broken"),
        pytest.param("license: !!int ''", "error", id="a-tag-without-a-value"),
        pytest.param("license: 2001-99-99", "error", id="no-such-date"),
        pytest.param("license: {a: b}", "error", id="a-mapping"),
        pytest.param("license: '<script>x</script>'", "error", id="script"),
        pytest.param('license: "a\\e]0;x\\a"', "error", id="steers-a-terminal"),
        pytest.param("license: \ufffd", "error", id="no-utf-8"),
    ],
)
def test_a_card_from_anywhere_is_read_or_refused(tmp_path, head, expected):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# x\n")
    base = BaseModel(folder=tmp_path)
    if expected == "error":
        with pytest.raises(UserError, match="correct"):
            find_licence(base, no_card)
    else:
        assert find_licence(base, no_card).id == expected


def test_a_licence_s_name_is_one_line_and_its_link_leads_to_a_page(tmp_path):
    (tmp_path / "README.md").write_text(
        '---\nlicense: other\nlicense_name: "a\\nb\\e[2J"\nlicense_link: javascript:alert(1)\n---\n'
    )
    licence = find_licence(BaseModel(folder=tmp_path), no_card)
    assert (licence.name, licence.link) == ("a b\ufffd[2J", None)


def test_the_licence_in_the_folder_of_the_base_comes_first(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: house\nlicense_link: https://x.example\n---\n# x\n"
    )
    licence = find_licence(BaseModel(folder=tmp_path, architecture="Gemma3ForCausalLM"), no_card)
    assert (licence.id, licence.name, licence.link) == ("other", "house", "https://x.example")


def test_llama_s_notice_and_words(run):
    release = prepared(run, base_id="meta-llama/Llama-3.2-1B-Instruct")
    notice = next(file for file in release.files if file.target == "Notice")
    assert notice.read().decode().startswith("Llama 3.2 is licensed under the Llama 3.2 Community")
    assert "Built with Llama" in with_card(release, ()).card


def test_gemma_terms_and_notice(run):
    notice = next(file for file in prepared(run).files if file.target == "Notice")
    sentence, _, modified = notice.read().decode().strip().split("\n")
    assert sentence == (
        "Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms"
    )
    assert "were modified" in modified
    card = card_of(run)
    assert metadata(card)["license_link"] == "https://ai.google.dev/gemma/terms"
    assert "These weights were modified: they derive from `google/gemma-3-1b-it`" in card
