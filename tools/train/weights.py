"""Published folders of the demo model: written from the trained weights, and read back to train on.

Names and shapes are those of Qwen3.5's published mixture-of-experts checkpoints: experts of the layers fused in three
dimensions, those of the MTP layer one by one, bf16 but for A_log and the norm of the GDN layers.
"""

import json
import pathlib

import safetensors.torch
import torch

PREFIX = "model.language_model."
SHARDS = 2
F32 = (".A_log", ".linear_attn.norm.weight")


def gdn_tensors(mixer):
    """{name: tensor} of one GDN layer, views of the parameters."""
    qkv, z, b, a = mixer.in_proj.split(mixer.sizes)
    return {
        "in_proj_qkv.weight": qkv, "in_proj_z.weight": z, "in_proj_b.weight": b, "in_proj_a.weight": a,
        "conv1d.weight": mixer.conv1d.unsqueeze(1), "A_log": mixer.A_log, "dt_bias": mixer.dt_bias,
        "norm.weight": mixer.norm, "out_proj.weight": mixer.out_proj,
    }


def attention_tensors(mixer):
    found = {f"{part}_proj.weight": getattr(mixer, f"{part}_proj") for part in "qkvo"}
    return found | {"q_norm.weight": mixer.q_norm.weight, "k_norm.weight": mixer.k_norm.weight}


def moe_tensors(mlp, fused):
    gate, up = mlp.shared_gate_up.chunk(2)
    found = {
        "gate.weight": mlp.gate, "shared_expert.gate_proj.weight": gate, "shared_expert.up_proj.weight": up,
        "shared_expert.down_proj.weight": mlp.shared_down, "shared_expert_gate.weight": mlp.shared_expert_gate,
    }
    if fused:
        return found | {"experts.gate_up_proj": mlp.gate_up_proj, "experts.down_proj": mlp.down_proj}
    for expert, (both, down) in enumerate(zip(mlp.gate_up_proj, mlp.down_proj)):
        gate, up = both.chunk(2)
        found |= {f"experts.{expert}.gate_proj.weight": gate, f"experts.{expert}.up_proj.weight": up,
                  f"experts.{expert}.down_proj.weight": down}
    return found


def layer_tensors(layer, full, fused):
    found = {f"{name}.weight": getattr(layer, name).weight for name in ("input_layernorm", "post_attention_layernorm")}
    mixer = attention_tensors(layer.mixer) if full else gdn_tensors(layer.mixer)
    found |= {("self_attn." if full else "linear_attn.") + name: tensor for name, tensor in mixer.items()}
    return found | {f"mlp.{name}": tensor for name, tensor in moe_tensors(layer.mlp, fused).items()}


def published(model):
    """{published name: view of the parameter} of the whole model. The head is tied: it has no tensor."""
    found = {f"{PREFIX}embed_tokens.weight": model.embed_tokens, f"{PREFIX}norm.weight": model.norm.weight}
    for index, layer in enumerate(model.layers):
        part = layer_tensors(layer, model.config.is_full(index), fused=True)
        found |= {f"{PREFIX}layers.{index}.{name}": tensor for name, tensor in part.items()}
    mtp = model.mtp
    found |= {f"mtp.{name}.weight": getattr(mtp, name).weight
              for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")}
    found["mtp.fc.weight"] = mtp.fc
    part = layer_tensors(mtp.layer, full=True, fused=False)
    return found | {f"mtp.layers.0.{name}": tensor for name, tensor in part.items()}


def stored_type(name):
    return torch.float32 if name.endswith(F32) else torch.bfloat16


@torch.no_grad()
def round_as_stored(model):
    """Makes every weight what its published form holds, still in f32."""
    for name, tensor in published(model).items():
        tensor.copy_(tensor.to(stored_type(name)).float())


@torch.no_grad()
def read_published(folder, model):
    """Fills the model from a published folder."""
    folder = pathlib.Path(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    wanted = published(model)
    if set(index) != set(wanted):
        raise SystemExit(f"{folder}: its tensors are not those of this model: {sorted(set(index) ^ set(wanted))[:6]}")
    for shard in sorted(set(index.values())):
        for name, tensor in safetensors.torch.load_file(folder / shard).items():
            wanted[name].copy_(tensor.float())


def write_tensors(model, folder):
    """The shards and their index; returns the bytes of all tensors."""
    tensors = {name: t.detach().to(stored_type(name)).contiguous().clone() for name, t in published(model).items()}
    names = list(tensors)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    shards, filled = [[] for _ in range(SHARDS)], 0
    for name in names:
        shards[min(SHARDS - 1, filled * SHARDS // total)].append(name)
        filled += tensors[name].numel() * tensors[name].element_size()
    weight_map = {}
    for index, part in enumerate(shards, 1):
        file = f"model.safetensors-{index:05d}-of-{SHARDS:05d}.safetensors"
        safetensors.torch.save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)
        weight_map |= {name: file for name in part}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return total


def config_json(config, tokens):
    """config.json in the published form; `tokens` {token: id} of the special ones."""
    kinds = ["full_attention" if config.is_full(i) else "linear_attention" for i in range(config.num_layers)]
    return {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "model_type": "qwen3_5_moe",
        "tie_word_embeddings": True,
        "text_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_output_gate": True,
            "dtype": "bfloat16",
            "eos_token_id": tokens["<|endoftext|>"],
            "full_attention_interval": config.interval,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "hidden_size": config.hidden_size,
            "initializer_range": 0.02,
            "layer_types": kinds,
            "linear_conv_kernel_dim": config.conv_kernel,
            "linear_key_head_dim": config.linear_dim,
            "linear_num_key_heads": config.linear_heads,
            "linear_num_value_heads": config.linear_heads,
            "linear_value_head_dim": config.linear_dim,
            "mamba_ssm_dtype": "float32",
            "max_position_embeddings": 4096,
            "mlp_only_layers": [],
            "model_type": "qwen3_5_moe_text",
            "moe_intermediate_size": config.expert_width,
            "mtp_num_hidden_layers": 1,
            "mtp_use_dedicated_embeddings": False,
            "num_attention_heads": config.num_heads,
            "num_experts": config.num_experts,
            "num_experts_per_tok": config.num_experts_per_tok,
            "num_hidden_layers": config.num_layers,
            "num_key_value_heads": config.num_kv_heads,
            "partial_rotary_factor": config.rotary_dim / config.head_dim,
            "rms_norm_eps": config.eps,
            "rope_parameters": {
                "mrope_interleaved": True,
                "mrope_section": [11, 11, 10],
                "partial_rotary_factor": config.rotary_dim / config.head_dim,
                "rope_theta": int(config.rope_theta),
                "rope_type": "default",
            },
            "router_aux_loss_coef": 0.001,
            "shared_expert_intermediate_size": config.expert_width,
            "tie_word_embeddings": True,
            "use_cache": True,
            "vocab_size": config.vocab_size,
        },
    }
