"""Reads a published model folder without transformers.

Gives the config fields that the model needs and the text tensors in one canonical form: f32, the names of Qwen3.5's
tensors without their prefix (`embed_tokens.weight`, `layers.0.linear_attn.in_proj_qkv.weight`, ...), experts fused,
Qwen3-Next's interleaved projections taken apart. Section numbers are those of the model specification.
"""

import dataclasses
import json
import pathlib
import re

import safetensors.torch
import torch

PREFIXES = ("model.language_model.", "model.")
SKIPPED = re.compile(r"^(model\.)?(mtp|visual)\.")


@dataclasses.dataclass
class Config:
    """The text fields of config.json (1.2), after the rules for absent and doubled ones."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rotary_dim: int
    rope_theta: float
    eps: float
    layer_types: list
    conv_kernel: int
    num_key_heads: int
    num_value_heads: int
    key_dim: int
    value_dim: int
    num_experts: int  # 0: dense
    num_experts_per_tok: int
    norm_topk_prob: bool
    tied: bool
    interval: int  # full_attention_interval as written; layer_types is what counts


def text_fields(raw):
    """The fields of the text model, whether nested or flat (1.1)."""
    return raw.get("text_config", raw)


def read_config(folder):
    raw = json.loads((pathlib.Path(folder) / "config.json").read_text())
    text = text_fields(raw)
    rope = dict(text.get("rope_scaling") or text.get("rope_parameters") or {})
    theta = rope.get("rope_theta", text.get("rope_theta", 10000.0))
    partial = rope.get("partial_rotary_factor", text.get("partial_rotary_factor", 0.25))
    layers = text["num_hidden_layers"]
    interval = text.get("full_attention_interval", 4)
    derived = ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(layers)]
    return Config(
        model_type=raw["model_type"],
        vocab_size=text["vocab_size"],
        hidden_size=text["hidden_size"],
        num_layers=layers,
        num_heads=text["num_attention_heads"],
        num_kv_heads=text["num_key_value_heads"],
        head_dim=text["head_dim"],
        rotary_dim=int(text["head_dim"] * partial),
        rope_theta=float(theta),
        eps=text["rms_norm_eps"],
        layer_types=text.get("layer_types") or derived,
        conv_kernel=text["linear_conv_kernel_dim"],
        num_key_heads=text["linear_num_key_heads"],
        num_value_heads=text["linear_num_value_heads"],
        key_dim=text["linear_key_head_dim"],
        value_dim=text["linear_value_head_dim"],
        num_experts=text.get("num_experts", 0) if "moe" in raw["model_type"] or "next" in raw["model_type"] else 0,
        num_experts_per_tok=text.get("num_experts_per_tok", 0),
        norm_topk_prob=text.get("norm_topk_prob", True) if raw["model_type"] == "qwen3_next" else True,
        tied=raw.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
        interval=interval,
    )


def read_stored(folder):
    """Every tensor of the folder as stored, {name: tensor}, by way of the index where there is one (2.1)."""
    folder = pathlib.Path(folder)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    stored = {}
    for name in names:
        for key, tensor in safetensors.torch.load_file(folder / name).items():
            assert key not in stored, f"{key} is in two files"
            stored[key] = tensor
    return stored


def is_text(name):
    return not SKIPPED.match(name)


def strip_prefix(name):
    """`model.language_model.layers.0.x` and `model.layers.0.x` -> `layers.0.x`; `lm_head.weight` stays."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix):]
    return name


def fuse_experts(tensors):
    """Per-expert tensors (2.3) -> `experts.gate_up_proj` [E, 2 Im, H] and `experts.down_proj` [E, H, Im], in place."""
    pattern = re.compile(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$")
    found = {}
    for name in list(tensors):
        match = pattern.match(name)
        if match:
            found.setdefault(match[1], {})[(int(match[2]), match[3])] = tensors.pop(name)
    for base, parts in found.items():
        count = 1 + max(expert for expert, _ in parts)
        both = [torch.cat([parts[e, "gate"], parts[e, "up"]]) for e in range(count)]
        tensors[f"{base}.gate_up_proj"] = torch.stack(both)
        tensors[f"{base}.down_proj"] = torch.stack([parts[e, "down"] for e in range(count)])


def take_apart_next(config, tensors):
    """Qwen3-Next's in_proj_qkvz and in_proj_ba -> the four projections of Qwen3.5 (2.7), in place."""
    heads = config.num_key_heads
    ratio = config.num_value_heads // heads
    dk, values = config.key_dim, ratio * config.value_dim
    for name in [n for n in tensors if n.endswith("in_proj_qkvz.weight")]:
        base = name[: -len("in_proj_qkvz.weight")]
        block = tensors.pop(name).view(heads, 2 * dk + 2 * values, -1)
        q, k, v, z = block.split([dk, dk, values, values], dim=1)
        tensors[base + "in_proj_qkv.weight"] = torch.cat([x.flatten(0, 1) for x in (q, k, v)])
        tensors[base + "in_proj_z.weight"] = z.flatten(0, 1)
        block = tensors.pop(base + "in_proj_ba.weight").view(heads, 2 * ratio, -1)
        b, a = block.split([ratio, ratio], dim=1)
        tensors[base + "in_proj_b.weight"] = b.flatten(0, 1)
        tensors[base + "in_proj_a.weight"] = a.flatten(0, 1)


def read_tensors(folder, config):
    """The text tensors in canonical form, f32. An absent head is the embedding (tied, or 2.6)."""
    stored = read_stored(folder)
    tensors = {strip_prefix(n): t.to(torch.float32) for n, t in stored.items() if is_text(n)}
    fuse_experts(tensors)
    take_apart_next(config, tensors)
    for name in [n for n in tensors if n.endswith("conv1d.weight")]:
        tensors[name] = tensors[name].reshape(-1, config.conv_kernel)
    tensors.setdefault("lm_head.weight", tensors["embed_tokens.weight"])
    return tensors


def read_num_tokens(folder, config):
    """How many ids are tokens: one more than the largest id of tokenizer.json. Rows beyond are padding (7.2)."""
    path = pathlib.Path(folder) / "tokenizer.json"
    raw = json.loads(path.read_text())
    ids = list(raw["model"]["vocab"].values()) + [token["id"] for token in raw.get("added_tokens", [])]
    count = max(ids) + 1
    assert len(set(ids)) == count, f"{path}: ids have holes"
    assert count <= config.vocab_size, f"{path}: {count} tokens, {config.vocab_size} rows"
    return count
