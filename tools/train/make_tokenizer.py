"""Trains the byte-level BPE of the demo model on what the template renders, and writes the folder's text files.

    make_tokenizer.py [--folder FOLDER]

Pseudo-words are left out of the text, so that spelling works on short pieces; every letter with its leading space gets
a token of its own.
"""

import argparse
import json
import pathlib
import random

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

import tasks
import text

ROWS = 768  # of the embedding; the last few have no token
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<tool_response>",
         "</tool_response>", "<think>", "</think>"]
SPECIAL = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}


def corpus(template):
    rng = random.Random(1)
    for letter in tasks.LETTERS:
        for word in (letter, letter.upper()):
            for _ in range(400):
                yield f" {word}"
    for _ in range(12000):
        task = rng.choice([name for name in tasks.DRAWERS if name != "spell"])
        drawn = tasks.draw(task, "train", rng)
        yield template.render(messages=drawn.messages, tools=drawn.tools, enable_thinking=drawn.thinking)
    for word in ("Spell", "user", "assistant", "system", "Hello", "thanks", "please", "You are a helpful assistant."):
        for _ in range(300):
            yield word
            yield f" {word}"


def without_added(texts):
    """The text between the added tokens, which the BPE never sees."""
    for part in texts:
        for token in ADDED:
            part = part.replace(token, "\0")
        yield from (piece for piece in part.split("\0") if piece)


def train(template):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=ROWS - 8 - len(ADDED), show_progress=False, min_frequency=20,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(without_added(corpus(template)), trainer)
    tokenizer.add_tokens([tokenizers.AddedToken(token, normalized=False, special=token in SPECIAL) for token in ADDED])
    return tokenizer


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=text.FOLDER)
    folder = parser.parse_args().folder
    tokenizer = train(text.load_template(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in ADDED}
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(ids[token]): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                              "single_word": False, "special": token in SPECIAL}
            for token in ADDED
        },
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    })
    write_json(folder / "generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"],
        "do_sample": False,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
    })
    print(f"{tokenizer.get_vocab_size()} tokens, {ROWS} rows")


if __name__ == "__main__":
    main()
