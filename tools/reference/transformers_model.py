"""The reference proper: transformers in f32 on the CPU, eager attention, torch paths.

Loads the text model of a published folder and proves, before anything is computed, that it holds every text tensor of
the files bit for bit.
"""

import json
import pathlib
import re

import torch
import transformers

import checkpoint

CLASSES = {
    "qwen3_5": ("Qwen3_5TextConfig", "Qwen3_5ForCausalLM"),
    "qwen3_5_text": ("Qwen3_5TextConfig", "Qwen3_5ForCausalLM"),
    "qwen3_5_moe": ("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM"),
    "qwen3_5_moe_text": ("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM"),
    "qwen3_next": ("Qwen3NextConfig", "Qwen3NextForCausalLM"),
}


def load(folder):
    """The CausalLM of the folder, for text alone also where the file describes a vision model too."""
    raw = json.loads((pathlib.Path(folder) / "config.json").read_text())
    text = dict(checkpoint.text_fields(raw))
    if "tie_word_embeddings" in raw:  # the published form decides at the top level (1.2)
        text["tie_word_embeddings"] = raw["tie_word_embeddings"]
    config_name, model_name = CLASSES[raw["model_type"]]
    config = getattr(transformers, config_name)(**text)
    model, report = getattr(transformers, model_name).from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    for problem in ("missing_keys", "mismatched_keys", "error_msgs"):
        if report.get(problem):
            raise SystemExit(f"{folder}: transformers reports {problem}: {report[problem]}")
    unexpected = [key for key in report.get("unexpected_keys", []) if checkpoint.is_text(key)]
    if unexpected:
        raise SystemExit(f"{folder}: transformers does not know {unexpected}")
    model.eval()
    prove_weights(folder, model, config.tie_word_embeddings)
    return model


def held_tensor(name, held):
    """What transformers holds of the stored tensor `name`: the same name, or one expert's part of the fused ones."""
    name = name if name.startswith("lm_head.") else "model." + checkpoint.strip_prefix(name)
    if name in held:
        return name, held[name]
    match = re.match(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$", name)
    if not match:
        raise SystemExit(f"transformers holds nothing for {name}")
    base, expert, part = match[1], int(match[2]), match[3]
    if part == "down":
        return f"{base}.down_proj", held[f"{base}.down_proj"][expert]
    both = held[f"{base}.gate_up_proj"][expert]
    half = both.shape[0] // 2
    return f"{base}.gate_up_proj", both[:half] if part == "gate" else both[half:]


def prove_weights(folder, model, tied):
    """Fails unless every stored text tensor is held bit for bit in f32, and nothing is held that is not stored."""
    held = model.state_dict()
    covered = {}
    for name, stored in checkpoint.read_stored(folder).items():
        if not checkpoint.is_text(name):
            continue
        target, tensor = held_tensor(name, held)
        stored = stored.to(torch.float32)
        if tensor.dtype != torch.float32 or tensor.shape != stored.shape:
            raise SystemExit(f"{name}: held as {tensor.dtype} {list(tensor.shape)}, stored {list(stored.shape)}")
        if not torch.equal(tensor.contiguous().view(torch.int32), stored.contiguous().view(torch.int32)):
            raise SystemExit(f"{name}: transformers holds other values than {folder}")
        covered[target] = covered.get(target, 0) + stored.numel()
    if tied:
        if held["lm_head.weight"].data_ptr() != held["model.embed_tokens.weight"].data_ptr():
            raise SystemExit(f"{folder}: the head is tied but transformers holds two tensors")
        covered["lm_head.weight"] = held["lm_head.weight"].numel()
    for name, tensor in held.items():
        if covered.get(name) != tensor.numel():
            raise SystemExit(f"{name}: {tensor.numel()} values held, {covered.get(name, 0)} of them stored")


@torch.no_grad()
def prompt_logits(model, ids):
    """f32 [n, V], and the cache after the prompt."""
    out = model(input_ids=torch.tensor([ids]), use_cache=True)
    return out.logits[0].float(), out.past_key_values


@torch.no_grad()
def next_logits(model, token, cache):
    """f32 [V] after one more token; the cache moves on."""
    out = model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
    return out.logits[0, -1].float()


def greedy(model, ids, stops, most):
    """The likeliest tokens after ids, up to one of `stops` (which is part of them) or `most`."""
    logits, cache = prompt_logits(model, ids)
    tokens = [int(logits[-1].argmax())]
    while len(tokens) < most and tokens[-1] not in stops:
        tokens.append(int(next_logits(model, tokens[-1], cache).argmax()))
    return tokens
