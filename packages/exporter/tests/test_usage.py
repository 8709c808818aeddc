"""How to run the file elsewhere."""

from xmlgrpo_exporter.usage import ollama_template


def test_ollama_template_is_read_off_the_model_s_own():
    def gemma(messages, *, add_generation_prompt):
        system = ""
        if messages[0]["role"] == "system":
            system, messages = messages[0]["content"] + "\n\n", messages[1:]
        text = f"<bos><start_of_turn>user\n{system}{messages[0]['content']}<end_of_turn>\n"
        for message in messages[1:]:
            text += f"<start_of_turn>model\n{message['content']}<end_of_turn>\n"
        return text + ("<start_of_turn>model\n" if add_generation_prompt else "")

    # the form of Ollama's own one-turn templates, system and question in one user turn
    assert ollama_template(gemma, "<bos>") == (
        "{{ if .System }}<start_of_turn>user\n{{ .System }}\n\n"
        "{{ else }}<start_of_turn>user\n{{ end }}"
        "{{ .Prompt }}<end_of_turn>\n<start_of_turn>model\n{{ .Response }}<end_of_turn>\n"
    )
