"""Conversations as a model reads them: its chat template, and which tokens are the assistant's."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError
from train_jobs.answering.special_tokens import ANSWER, BOS, EOS, PASSAGE, QUESTION
from train_jobs.recipes.language_model import TOKENIZER_CONFIG, LanguageModel, as_json, files_of
from train_jobs.recipes.rows import BadRowError, checked_text

if TYPE_CHECKING:
    from cluster.core.storage import Store
    from train_jobs.recipes.training import Finished

GENERATION_CONFIG = "generation_config.json"
ROLES = ("system", "user", "assistant")
# Of models with the project's own tokens, which have no template until they learn to chat.
OWN_TEMPLATE = (
    f"{BOS}{{% for message in messages %}}"
    f"{{% if message['role'] == 'assistant' %}}{ANSWER}{{{{ message['content'] }}}}{EOS}"
    f"{{% elif message['role'] == 'user' %}}{QUESTION}{{{{ message['content'] }}}}"
    f"{{% else %}}{PASSAGE}{{{{ message['content'] }}}}{{% endif %}}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{ANSWER}{{% endif %}}"
)


class Turns:
    """Encodes conversations for one model.

    Attributes:
        template: the model's chat template, or the project's own.

    Raises:
        BadInputError: the model has no chat template and not the project's special tokens.
    """

    def __init__(self, store: Store, base: LanguageModel) -> None:
        self.store, self.base = store, base
        settings = base.settings(store)
        found = settings.get("chat_template")
        if found is None and base.tokenizer.token_to_id(ANSWER) is None:
            raise BadInputError(f"{base.reference} has no chat template in its tokenizer_config.json: add one")
        if isinstance(found, list):  # several by name
            found = next((one["template"] for one in found if one.get("name") == "default"), None)
        self.template = str(found or OWN_TEMPLATE)
        self.tokenizer = base.tokenizer
        self._tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in settings.items()
            if name.endswith("_token") and isinstance(value, str | dict)
        }
        self._control = [token.content for token in base.tokenizer.get_added_tokens_decoder().values() if token.special]
        from transformers.utils.chat_template_utils import render_jinja_template

        self._render_template = render_jinja_template

    def encode(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], list[int]]:
        """The tokens of a conversation, and of each 1 where the assistant said it (and that its turn ended), else 0.

        Raises:
            BadRowError: a text holds one of the model's control tokens, or the template cannot write the conversation
                turn by turn.
        """
        for message in messages:
            if control := next((token for token in self._control if token in message["content"]), None):
                raise BadRowError(f"a {message['role']} message holds the control token {control}")
        pieces: list[tuple[str, int]] = []
        done = 0
        whole = self.written(messages)
        for place, message in enumerate(messages):
            if message["role"] == "assistant":
                before, after = self.written(messages[:place], asked=True), self.written(messages[: place + 1])
                if not (after.startswith(before) and whole.startswith(after) and len(before) >= done):
                    raise BadRowError("the model's chat template writes earlier turns differently as more follow")
                pieces += [(before[done:], 0), (after[len(before) :], 1)]
                done = len(after)
        ids: list[int] = []
        learn: list[int] = []
        self.tokenizer.encode_special_tokens = False  # those of the template are the format's own
        for text, learnt in pieces:
            found = self.tokenizer.encode(text, add_special_tokens=False).ids
            ids += found
            learn += [learnt] * len(found)
        return ids, learn

    def files_of(self, finished: Finished) -> dict[str, bytes]:
        """The folder of what came of the model, which says by which template it was taught and what ends a turn."""
        settings = {**self.base.settings(self.store), "chat_template": self.template}
        changed: dict[str, Any] = {}
        end = self.end_of_turn()
        if end and self.tokenizer.token_to_id(end) != self.base.eos:
            settings["eos_token"] = end
            path = posixpath.join(self.store.artefact(self.base.manifest), GENERATION_CONFIG)
            generation = self.store.read_json(path) if self.store.exists(path) else {}
            given = generation.get("eos_token_id", self.base.eos)
            ends = [self.tokenizer.token_to_id(end), *(given if isinstance(given, list) else [given])]
            changed[GENERATION_CONFIG] = {**generation, "eos_token_id": list(dict.fromkeys(ends))}
        changed[TOKENIZER_CONFIG] = settings
        files = {name: as_json(value) for name, value in changed.items()}
        return files_of(finished, self.store, self.base, files)

    def end_of_turn(self) -> str:
        """The control token that the template writes after what the assistant said; empty where it writes none."""
        said = "ok"
        try:
            text = self.written([{"role": "user", "content": said}, {"role": "assistant", "content": said}])
        except BadRowError:
            return ""
        after = text.rpartition(said)[2]
        places = {token: after.find(token) for token in self._control if token in after}
        return min(places, key=lambda token: (places[token], -len(token)), default="")

    def written(self, messages: Sequence[Mapping[str, str]], asked: bool = False) -> str:
        """The text of a conversation; with ``asked`` up to where the assistant is to go on.

        Raises:
            BadRowError: the template refuses it.
        """
        from jinja2.exceptions import TemplateError

        names: dict[str, Any] = dict(self._tokens)
        turns = [dict(message) for message in messages]
        try:
            rendered: Any = self._render_template(
                conversations=[turns], chat_template=self.template, add_generation_prompt=asked, **names
            )
        except TemplateError as error:
            raise BadRowError(f"the model's chat template refuses it: {str(error)[:100]}") from None
        return str(rendered[0][0])


def messages_of(value: Any, name: str = "messages") -> list[dict[str, str]]:
    """Messages in OpenAI's form; texts only.

    Raises:
        BadRowError: they are not.
    """
    if not isinstance(value, list) or not value:
        raise BadRowError(f"there are no {name}" if not value else f"{name} is not a list")
    found = []
    for place, message in enumerate(value):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            role = message.get("role") if isinstance(message, dict) else None
            raise BadRowError(f"{name}[{place}] has the role {role!r}, and must have one of {', '.join(ROLES)}")
        if message.get("tool_calls"):
            raise BadRowError(f"{name}[{place}] calls tools, which are not learnt")
        content = message.get("content")
        if isinstance(content, list):
            if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
                raise BadRowError(f"{name}[{place}] has parts that are no text")
            content = "".join(str(part.get("text", "")) for part in content)
        found.append({"role": message["role"], "content": checked_text(content, f"{name}[{place}].content")})
    return found
