"""Text and token ids: the template's rendering of a conversation, and which of its tokens the assistant writes."""

import json
import pathlib

import jinja2.sandbox
import tokenizers

FOLDER = pathlib.Path(__file__).parents[2] / "deploy" / "demo-model"
NO_THOUGHT = ["<think>", "ĊĊ", "</think>", "ĊĊ"]  # part of the prompt when thinking is off


def refuse(message):
    raise ValueError(message)


def to_json(value):
    return json.dumps(value, ensure_ascii=False)


def load_template(folder=FOLDER):
    """The checkpoint's template, in the environment that transformers gives it."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    return environment.from_string((pathlib.Path(folder) / "chat_template.jinja").read_text())


class Conversations:
    """Renders and tokenises. One thread."""

    def __init__(self, folder=FOLDER):
        self.template = load_template(folder)
        self.tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
        token_id = self.tokenizer.token_to_id
        self.start, self.end, self.pad = (token_id(t) for t in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"))
        self.opening = [self.start] + self.tokenizer.encode("assistant\n").ids
        self.no_thought = [token_id(token) for token in NO_THOUGHT]
        self.thought = [token_id("<think>"), token_id("Ċ")]

    def text(self, drawn, with_answer=True):
        """The whole conversation, or the prompt of its last answer."""
        messages = drawn.messages if with_answer else drawn.messages[:-1]
        return self.template.render(messages=messages, tools=drawn.tools, add_generation_prompt=not with_answer,
                                    enable_thinking=drawn.thinking)

    def encode(self, drawn):
        """(ids up to the last <|im_end|>, for each id whether the assistant writes it)."""
        ids = self.tokenizer.encode(self.text(drawn), add_special_tokens=False).ids[:-1]  # the newline after the end
        written = [False] * len(ids)
        position, width = 0, len(self.opening)
        while position < len(ids):
            if ids[position] != self.start or ids[position:position + width] != self.opening:
                position += 1
                continue
            position += width
            for given in (self.no_thought, self.thought):
                if ids[position:position + len(given)] == given:
                    position += len(given)
                    break
            while True:
                written[position] = True
                position += 1
                if ids[position - 1] == self.end:
                    break
        return ids, written

    def prompt_ids(self, drawn):
        return self.tokenizer.encode(self.text(drawn, with_answer=False), add_special_tokens=False).ids
