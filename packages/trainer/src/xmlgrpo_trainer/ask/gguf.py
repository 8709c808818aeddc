"""A GGUF file that is asked through llama.cpp."""

import codecs
from functools import partial
from pathlib import Path

from xmlgrpo_gguf.engine import GgufSampling, Prompt, engine_for
from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.probe import probe
from xmlgrpo_gguf.template import ChatTemplate
from xmlgrpo_gguf.threads import decoding_threads
from xmlgrpo_run.prompt import Messages, check_bos, text_around, write_prompt
from xmlgrpo_trainer.ask.chat import Completion, OnText, ReplySettings, check_room


class GgufChat:
    """Answers by llama.cpp.

    The chat is written with the file's own template, as it would be for anyone who uses the file.

    Raises:
        UserError: llama-cpp-python is missing, or the file cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        probe(Path(path))
        self.model = GgufModel(Path(path))
        self.template = ChatTemplate(self.model)

    def __call__(self, messages: Messages, settings: ReplySettings, on_text: OnText) -> Completion:
        """Answer a conversation.

        Raises:
            UserError: the file lacks what a chat needs, or the question holds a BOS.
        """
        model = self.model
        write = partial(write_prompt, self.template.render)
        prompt = write(messages)
        tokens = model.tokenize(prompt.text)
        if model.bos >= 0:
            around = model.tokenize(text_around(write, prompt.chat))
            check_bos(tokens, around, model.bos, model.bos_text, "the prompt")
        check_room(len(tokens), settings, model.trained_context)
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

        def on_token(_index: int, token: int) -> None:
            if not model.ends_generation(token) and (text := decode(model.piece(token))):
                on_text(text)

        sampling = GgufSampling(settings.temperature, seed=settings.seed)
        asked = Prompt(tokens, settings.max_new_tokens, sampling=sampling)
        threads = decoding_threads(model.parameters)
        prompt_threads = decoding_threads(model.parameters, len(tokens))
        with engine_for(
            model, [asked], slots=1, threads=threads, prompt_threads=prompt_threads
        ) as engine:
            [written] = engine.write([asked], on_token=on_token)
        if rest := decode(b"", final=True):  # half a character: it was what the model wrote
            on_text(rest)
        cut = written.finish == "length"
        return Completion(written.text, written.tokens, len(tokens), "length" if cut else "stop")
