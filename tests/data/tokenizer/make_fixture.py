#!/usr/bin/env python3
"""Trains the fixture tokenizer: Qwen3.5's pipeline and added tokens with a vocabulary of 1,000.

    python3 -m venv VENV && VENV/bin/pip install tokenizers==0.23.3
    VENV/bin/python tests/data/tokenizer/make_fixture.py

Writes tokenizer.json, tokenizer_config.json and generation_config.json beside itself. Run it again only
to change the fixture: every committed list of ids beside it, and the tests' tiny models, use these ids.
"""

import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = pathlib.Path(__file__).resolve().parent
NUM_TOKENS = 1000
# So many of the last base tokens lose their merge: encoding never yields them, decoding must know them.
# Published vocabularies have such tokens too.
NUM_UNREACHABLE = 4
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
           r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
           "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
           "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
         "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
         "<think>", "</think>"]
SPECIAL_LAST = ["<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>",
                "<tts_text_bos_single>", "<|audio_pad|>"]

TEXT = """
The quick brown fox jumps over the lazy dog. It's what they've said: we'll see, I'm sure, he'd know.
A server takes requests, cuts prompts into tokens, and streams the answer back to its clients.
Attention reads every earlier token; a recurrent layer keeps a state of fixed size instead.
When a rank fails, the world ends with its cause, and the router sends the request somewhere else.
Write a short story about a lighthouse keeper who learns to read the weather from the birds.
What is the capital of France? The capital of France is Paris. How many days are in a leap year?
Once upon a time there was a small town by the sea, where nobody had ever seen the mountains.
To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer.
You are a helpful assistant. Please explain your answer step by step, then give the final result.
First, second, third and last: one, two, three, four, five, six, seven, eight, nine, ten.
    for i in range(10):\n        print(f"{i} squared is {i * i}")\n    return None\n
int main(int argc, char** argv) {\n  std::vector<int> values = {1, 2, 3};\n  return 0;\n}\n
def add(a, b):\n    \"\"\"Adds two numbers.\"\"\"\n    return a + b\n\n\nclass Point:\n    pass\n
{"name": "get_weather", "arguments": {"city": "Berlin", "unit": "celsius", "days": 3}}
SELECT id, name FROM users WHERE created_at > '2024-01-01' ORDER BY id DESC LIMIT 100;
https://example.com/path?query=value&other=1#fragment user@example.com 192.168.0.1:8080
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Schöne Grüße aus München!
Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis. Où est la bibliothèque ?
El veloz murciélago hindú comía feliz cardillo y kiwi. ¿Dónde está la niña? ¡Mañana!
Luís argüia à Júlia que brações, fé, chá, óxido, pôr, zângão eram palavras do português.
Pchnąć w tę łódź jeża lub ośm skrzyń fig. Příliš žluťoučký kůň úpěl ďábelské ódy.
Cửa Việt là một thị trấn ở tỉnh Quảng Trị. Tôi muốn ăn phở và uống cà phê sữa đá.
Съешь же ещё этих мягких французских булок, да выпей чаю. Привет, как дела сегодня?
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Καλημέρα κόσμε, τι κάνεις σήμερα;
דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עֲלֵיכֶם
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر. اَلسَّلَامُ عَلَيْكُمْ
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णु। नमस्ते दुनिया
আমার সোনার বাংলা আমি তোমায় ভালোবাসি। தமிழ் மொழி வாழ்க. తెలుగు భాష. ಕನ್ನಡ. മലയാളം.
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน สวัสดีชาวโลก
我想在苹果公司工作。今天天气很好，我们去公园散步吧！人工智能正在改变世界。中文分词测试。
色は匂へど散りぬるを我が世誰ぞ常ならむ。東京タワーへ行きました。カタカナとひらがな。
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 안녕하세요 세계!
🎉 Hello 👋🏽 family 👨‍👩‍👧‍👦 flags 🇩🇪🇯🇵 hearts ❤️ 💯 😁 😂 🚀
½ ¾ ² ³ Ⅷ ① ٣ ४ € £ ¥ © ® ™ § ¶ † ‡ • … – — “quoted” ‘single’ «guillemets» ± × ÷ ≠ ≤ ≥ ∞ → ← ⇒
\t\tindented with tabs\n\n\nthree newlines   three spaces    four     five      six\r\nwindows line\r\n
"""


def added_token(content, token_id, special):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": special}


def train(num_base):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False,
                                                    use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=num_base, min_frequency=1, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([TEXT], trainer)
    return json.loads(tokenizer.to_str())


def main():
    added = [(content, True) for content in SPECIAL] + [(content, False) for content in PLAIN]
    added += [(content, True) for content in SPECIAL_LAST]
    num_base = NUM_TOKENS - len(added)
    data = train(num_base)
    assert len(data["model"]["vocab"]) == num_base, len(data["model"]["vocab"])
    data["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
    del data["model"]["merges"][-NUM_UNREACHABLE:]
    data["added_tokens"] = [added_token(content, num_base + i, special)
                            for i, (content, special) in enumerate(added)]
    ids = {token["content"]: token["id"] for token in data["added_tokens"]}

    decoder = {str(token["id"]): {key: token[key] for key in token if key != "id"}
               for token in data["added_tokens"]}
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": decoder,
              "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
              "errors": "replace", "model_max_length": 262144, "pad_token": "<|endoftext|>",
              "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    generation = {"bos_token_id": ids["<|endoftext|>"], "do_sample": True,
                  "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
                  "pad_token_id": ids["<|endoftext|>"], "temperature": 0.6, "top_k": 20, "top_p": 0.95}
    for name, value in (("tokenizer.json", data), ("tokenizer_config.json", config),
                        ("generation_config.json", generation)):
        text = json.dumps(value, ensure_ascii=False, indent=1 if name != "tokenizer.json" else None)
        (FOLDER / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
