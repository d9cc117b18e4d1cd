"""The demo model for training: the text model of Qwen3.5 MoE and its MTP layer, in plain torch.

Equal to transformers (check_equal.py), but batched and quick on a CPU. Parameters have the names of the published
tensors; only the projections into a GDN layer are one matrix, which export.py takes apart.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

import fused
import moe


@dataclasses.dataclass
class Config:
    vocab_size: int = 768
    hidden_size: int = 128
    num_layers: int = 8
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 256
    rotary_dim: int = 64
    rope_theta: float = 1e7
    eps: float = 1e-6
    interval: int = 4
    conv_kernel: int = 4
    linear_heads: int = 4
    linear_dim: int = 128
    num_experts: int = 8
    num_experts_per_tok: int = 2
    expert_width: int = 64

    def is_full(self, layer):
        return (layer + 1) % self.interval == 0


class RmsNorm(nn.Module):
    """y = x / rms(x) * (1 + weight)."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x):
        return fused.rms_norm(x, self.weight, self.eps)


def matrix(rows, columns):
    return nn.Parameter(torch.empty(rows, columns))


class GatedDeltaNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.dim, self.eps = config.linear_heads, config.linear_dim, config.eps
        width = self.heads * self.dim
        self.sizes = [3 * width, width, self.heads, self.heads]  # qkv, z, b, a
        self.in_proj = matrix(sum(self.sizes), config.hidden_size)
        self.conv1d = matrix(3 * width, config.conv_kernel)
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads))
        self.norm = nn.Parameter(torch.ones(self.dim))
        self.out_proj = matrix(config.hidden_size, width)

    def forward(self, x, positions):
        q, k, v, z, gates = fused.prepare(F.linear(x, self.in_proj), self.conv1d, self.heads, self.dim)
        b, a = gates.chunk(2, dim=-1)
        g = -self.A_log.exp() * F.softplus(a + self.dt_bias)
        out = fused.delta_rule(q, k, v, g.transpose(1, 2), b.sigmoid().transpose(1, 2))
        return F.linear(fused.gated_norm(out, z, self.norm, self.eps), self.out_proj)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        dim, hidden = config.head_dim, config.hidden_size
        self.q_proj = matrix(config.num_heads * 2 * dim, hidden)
        self.k_proj = matrix(config.num_kv_heads * dim, hidden)
        self.v_proj = matrix(config.num_kv_heads * dim, hidden)
        self.o_proj = matrix(hidden, config.num_heads * dim)
        self.q_norm, self.k_norm = RmsNorm(dim, config.eps), RmsNorm(dim, config.eps)

    def forward(self, x, positions):
        batch, length, _ = x.shape
        queries = F.linear(x, self.q_proj).view(batch, length, self.config.num_heads, -1)
        keys = F.linear(x, self.k_proj).view(batch, length, self.config.num_kv_heads, -1)
        values = F.linear(x, self.v_proj).view(batch, length, self.config.num_kv_heads, -1)
        out = fused.gated_attention(queries, keys, values, self.q_norm.weight, self.k_norm.weight, *positions,
                                    self.config.eps)
        return F.linear(out, self.o_proj)


def rotations(length, config, device):
    """(cos, sin), each [t, rotary_dim / 2]."""
    half = config.rotary_dim // 2
    frequency = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) * 2 / config.rotary_dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float().to(device), angle.sin().float().to(device)


class Moe(nn.Module):
    """Routed experts and the shared one. Keeps the balance loss of its last forward."""

    def __init__(self, config):
        super().__init__()
        hidden, width = config.hidden_size, config.expert_width
        self.top = config.num_experts_per_tok
        self.gate = matrix(config.num_experts, hidden)
        self.gate_up_proj = nn.Parameter(torch.empty(config.num_experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(config.num_experts, hidden, width))
        self.shared_gate_up = matrix(2 * width, hidden)
        self.shared_down = matrix(hidden, width)
        self.shared_expert_gate = matrix(1, hidden)
        self.balance = None

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        weights, experts, self.balance = moe.route(F.linear(flat, self.gate), self.top)
        routed = moe.Experts.apply(flat, weights, experts, self.gate_up_proj, self.down_proj)
        shared = F.linear(fused.swiglu(F.linear(flat, self.shared_gate_up)), self.shared_down)
        return (routed + shared * F.linear(flat, self.shared_expert_gate).sigmoid()).view_as(x)


class Layer(nn.Module):
    def __init__(self, config, full):
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden_size, config.eps)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.eps)
        self.mixer = Attention(config) if full else GatedDeltaNet(config)
        self.mlp = Moe(config)

    def forward(self, x, positions):
        x = x + self.mixer(self.input_layernorm(x), positions)
        return x + self.mlp(self.post_attention_layernorm(x))


class Mtp(nn.Module):
    """Drafts token t + 2 from the final hidden state of t and token t + 1."""

    def __init__(self, config):
        super().__init__()
        self.pre_fc_norm_embedding = RmsNorm(config.hidden_size, config.eps)
        self.pre_fc_norm_hidden = RmsNorm(config.hidden_size, config.eps)
        self.fc = matrix(config.hidden_size, 2 * config.hidden_size)
        self.layer = Layer(config, full=True)
        self.norm = RmsNorm(config.hidden_size, config.eps)

    def forward(self, hidden, following, positions):
        """hidden [b, t, h] after the final norm; following [b, t, h]: embeddings of the tokens after. -> [b, t, h]"""
        both = torch.cat([self.pre_fc_norm_embedding(following), self.pre_fc_norm_hidden(hidden)], dim=-1)
        return self.norm(self.layer(F.linear(both, self.fc), positions))


class DemoModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = matrix(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, config.is_full(i)) for i in range(config.num_layers))
        self.norm = RmsNorm(config.hidden_size, config.eps)
        self.mtp = Mtp(config)
        self.reset()

    def forward(self, ids):
        """ids [b, t], padded at the end -> the hidden states after the final norm [b, t, h]."""
        positions = rotations(ids.shape[1], self.config, ids.device)
        x = F.embedding(ids, self.embed_tokens)
        for layer in self.layers:
            x = layer(x, positions)
        return self.norm(x)

    def draft(self, hidden, ids):
        """Hidden states [b, t - 1, h] of the drafts: position t drafts the token t + 2."""
        positions = rotations(ids.shape[1] - 1, self.config, ids.device)
        return self.mtp(hidden[:, :-1], F.embedding(ids[:, 1:], self.embed_tokens), positions)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens)

    def balance(self, with_mtp):
        total = sum(layer.mlp.balance for layer in self.layers) / len(self.layers)
        return total + self.mtp.layer.mlp.balance if with_mtp else total

    @torch.no_grad()
    def reset(self, std=0.06):
        """Random weights; what writes into the residual stream starts smaller, decays start between slow and quick."""
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj", "o_proj", "down_proj", "shared_down")):
                nn.init.normal_(parameter, std=std / 4)
            elif name.endswith("conv1d"):
                nn.init.uniform_(parameter, -0.5, 0.5)
            elif name.endswith("dt_bias"):  # softplus(dt_bias) from 0.001 to 0.1
                step = torch.exp(torch.empty_like(parameter).uniform_(-6.9, -2.3))
                parameter.copy_(step + torch.log(-torch.expm1(-step)))
            elif name.endswith("A_log"):
                parameter.copy_(torch.empty_like(parameter).uniform_(1, 16).log())
            elif parameter.dim() >= 2:
                nn.init.normal_(parameter, std=std)
