"""The licence is the base model's, wherever that is said."""

import pytest

from xmlgrpo_exporter.publish.base_and_licence import BaseModel, find_licence

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
    assert (licence.notice is not None) == (expected == "gemma")


def test_the_licence_in_the_folder_of_the_base_comes_first(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: house\nlicense_link: https://x.example\n---\n# x\n"
    )
    licence = find_licence(BaseModel(folder=tmp_path, architecture="Gemma3ForCausalLM"), no_card)
    assert (licence.id, licence.name, licence.link) == ("other", "house", "https://x.example")


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
