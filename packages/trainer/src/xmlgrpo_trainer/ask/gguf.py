"""A GGUF file that is asked through llama.cpp."""

import codecs
from typing import Any

from xmlgrpo_gguf.threads import decoding_threads
from xmlgrpo_gguf.trial import Tried, try_file
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.ask.speaker import Messages, OnText, Said, Settings, check_room


class GgufSpeaker:
    """Answers with llama-cpp-python.

    The chat is written with the file's own template, as it would be for anyone who uses the file.

    Args:
        path: the file; its first bytes have been checked.

    Raises:
        UserError: llama-cpp-python is missing.
    """

    def __init__(self, path: str) -> None:
        try:
            import llama_cpp
        except ImportError:
            raise UserError(
                f"{path!r} is a GGUF file, and llama-cpp-python is not installed: run "
                "`make gguf-setup` once, or .venv/bin/pip install llama-cpp-python"
            ) from None
        self.path = path
        self._cpp: Any = llama_cpp
        # llama.cpp keeps the pointer to the callback, so it must live as long as we do
        self._silence = llama_cpp.llama_log_callback(lambda _level, _text, _user_data: None)
        llama_cpp.llama_log_set(self._silence, None)

    def __call__(self, messages: Messages, settings: Settings, on_text: OnText) -> Said:
        """Answer a chat, handing on each piece of the reply; see `xmlgrpo_trainer.ask.speaker`.

        Raises:
            UserError: the file is broken, cannot be loaded, or lacks what a chat needs.
        """
        tried = try_file(self.path, messages)
        # words first: how long the prompt is decides how much context is made
        self._words = self._open(vocab_only=True)
        self._vocabulary = self._cpp.llama_model_get_vocab(self._words.model)
        prompt = self._prompt(tried)
        check_room(len(prompt), settings, self._context())
        llama = self._open(n_ctx=len(prompt) + settings.max_new_tokens, seed=settings.seed)
        parameters = self._cpp.llama_model_n_params(llama.model)
        threads = decoding_threads(parameters), decoding_threads(parameters, len(prompt))
        self._cpp.llama_set_n_threads(llama.ctx, *threads)
        tokens = llama.generate(
            prompt, top_k=0, top_p=1.0, min_p=0.0, temp=settings.temperature, repeat_penalty=1.0
        )
        whole = codecs.getincrementaldecoder("utf-8")(errors="replace")  # never half a character
        pieces: list[str] = []

        def tell(text: str) -> None:
            if text:
                pieces.append(text)
                on_text(text)

        count, ended = 0, False
        while count < settings.max_new_tokens and not ended:
            token = next(tokens)
            count += 1
            ended = bool(self._cpp.llama_vocab_is_eog(self._vocabulary, token))
            if not ended:
                tell(whole.decode(llama.detokenize([token], special=False)))
        tell(whole.decode(b"", final=True))
        return Said("".join(pieces), count, len(prompt), "stop" if ended else "length")

    def _prompt(self, tried: Tried) -> list[int]:
        if not self._words.metadata.get("tokenizer.chat_template"):
            raise UserError(f"{self.path!r} carries no chat template; export it again: make gguf")
        if tried.prompt is None:
            raise UserError(f"{self.path!r}: its chat template does not work ({tried.problem})")
        bos = self._words.token_bos()
        prompt: list[int] = self._words.tokenize(tried.prompt.encode(), add_bos=False, special=True)
        if prompt.count(bos) != 1 or prompt[0] != bos:
            raise UserError(
                f"the prompt holds {prompt.count(bos)} BOS tokens, expected one, at its start: "
                f"the question contains {self._piece(bos)!r}, or the file's chat template is broken"
            )
        return prompt

    def _context(self) -> int:
        metadata = self._words.metadata
        return int(metadata[f"{metadata['general.architecture']}.context_length"])

    def _piece(self, token: int) -> str:
        piece: bytes = self._cpp.llama_vocab_get_text(self._vocabulary, token)
        return piece.decode()

    def _open(self, **options: Any) -> Any:
        try:
            return self._cpp.Llama(self.path, verbose=False, **options)
        except (ValueError, OSError, RuntimeError) as error:
            raise UserError(f"llama.cpp cannot load {self.path!r}: {error}") from None
