"""The text model in plain torch, written from sections 1 to 4 of the model specification alone.

A second opinion beside transformers, in f32 or f64, and the thing that `mutations.py` breaks on purpose: so each
rule of the specification is one small method, and a mistake is another body for it. Shapes are written
[tokens, ...]; one sequence at a time; weights are [out, in].
"""

import torch
import torch.nn.functional as F

CHUNK = 64
L2_EPS = 1e-6


class State:
    """What a sequence carries from one call to the next: one entry a layer, made when first needed."""

    def __init__(self, num_layers):
        self.length = 0
        self.keys = [None] * num_layers  # [nkv, tokens, head_dim], after norm and rotary
        self.values = [None] * num_layers  # [nkv, tokens, head_dim]
        self.conv = [None] * num_layers  # [kernel - 1, channels], before the convolution
        self.delta = [None] * num_layers  # [Hv, dk, dv]


class Model:
    def __init__(self, config, tensors, dtype=torch.float32):
        self.config = config
        self.dtype = dtype
        self.tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        self.layer_types = list(config.layer_types)
        self.routing_gap = float("inf")  # smallest distance of a chosen expert's logit to one left out

    def forward(self, ids, state=None, budget=None):
        """Logits [n, V] of `ids`, cut into pieces of at most `budget` tokens (a multiple of 64); None: whole."""
        state = state if state is not None else State(self.config.num_layers)
        step = budget or len(ids)
        pieces = [self.step(ids[i : i + step], state) for i in range(0, len(ids), step)]
        return torch.cat(pieces)

    def step(self, ids, state):
        x = self.tensors["embed_tokens.weight"][torch.tensor(ids)]
        for i in range(self.config.num_layers):
            x = self.layer(i, x, state)
        state.length += len(ids)
        return self.head(x)

    # --- 3.2, 3.3, 3.8: norms, residual stream, head ---

    def rms1p(self, x, w):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.eps) * (1 + w)

    def layer(self, i, x, state):
        x = self.add_mixer(i, x, state)
        return self.add_ffn(i, x)

    def add_mixer(self, i, x, state):
        h = self.rms1p(x, self.weight(i, "input_layernorm.weight"))
        return x + self.mixer(i, h, state)

    def mixer(self, i, h, state):
        linear = self.layer_types[i] == "linear_attention"
        return self.delta_net(i, h, state) if linear else self.attention(i, h, state)

    def add_ffn(self, i, x):
        h = self.rms1p(x, self.weight(i, "post_attention_layernorm.weight"))
        return x + (self.moe(i, h) if self.config.num_experts else self.mlp(i, "mlp.", h))

    def head(self, x):
        y = self.rms1p(x, self.tensors["norm.weight"])
        return y @ self.tensors["lm_head.weight"].T

    def weight(self, i, name):
        return self.tensors[f"layers.{i}.{name}"]

    def linear(self, i, name, x):
        return x @ self.weight(i, name + ".weight").T

    # --- 3.4: gated attention ---

    def attention(self, i, x, state):
        c = self.config
        q, gate = self.split_query_gate(self.linear(i, "self_attn.q_proj", x))
        k = self.linear(i, "self_attn.k_proj", x).view(-1, c.num_kv_heads, c.head_dim)
        v = self.linear(i, "self_attn.v_proj", x).view(-1, c.num_kv_heads, c.head_dim)
        q, k = self.norm_and_rotate(i, q, k, state)
        k, v = self.append_kv(i, k, v, state)
        o = self.attend(q, self.kv_for_queries(k), self.kv_for_queries(v))
        o = self.gate_attention(o, gate).reshape(len(x), -1)
        return self.linear(i, "self_attn.o_proj", o)

    def split_query_gate(self, qg):
        """[T, nh * 512] -> q, gate [T, nh, 256]: per head 256 rows of query, then 256 of gate."""
        qg = qg.view(len(qg), self.config.num_heads, 2 * self.config.head_dim)
        return qg.split(self.config.head_dim, dim=-1)

    def norm_and_rotate(self, i, q, k, state):
        q = self.rms1p(q, self.weight(i, "self_attn.q_norm.weight"))
        k = self.rms1p(k, self.weight(i, "self_attn.k_norm.weight"))
        positions = self.positions(len(q), state)
        return self.rotate(q, positions), self.rotate(k, positions)

    def positions(self, count, state):
        return torch.arange(state.length, state.length + count)

    def angles(self, positions):
        """[T, rotary / 2] in f32 as transformers has them, also when the rest is f64: they are large."""
        half = torch.arange(0, self.config.rotary_dim, 2, dtype=torch.float32)
        inv_freq = 1.0 / self.config.rope_theta ** (half / self.config.rotary_dim)
        return positions[:, None].float() * inv_freq

    def rotate(self, x, positions):
        """[T, heads, 256]: dims d and d + 32 of the first 64 form a pair; the rest pass through."""
        theta = self.angles(positions)[:, None, :]
        cos, sin = theta.cos().to(self.dtype), theta.sin().to(self.dtype)
        first, second, rest = self.rotary_parts(x)
        return self.join_rotary(first * cos - second * sin, second * cos + first * sin, rest)

    def rotary_parts(self, x):
        half = self.config.rotary_dim // 2
        return x.split([half, half, x.shape[-1] - 2 * half], dim=-1)

    def join_rotary(self, first, second, rest):
        return torch.cat([first, second, rest], dim=-1)

    def append_kv(self, i, k, v, state):
        """Adds new tokens to the cache and returns all of it, [nkv, tokens, 256]."""
        k, v = k.transpose(0, 1), v.transpose(0, 1)
        if state.keys[i] is not None:
            k, v = torch.cat([state.keys[i], k], dim=1), torch.cat([state.values[i], v], dim=1)
        state.keys[i], state.values[i] = k, v
        return k, v

    def kv_for_queries(self, kv):
        """Query head h uses KV head h // (nh / nkv)."""
        return kv.repeat_interleave(self.config.num_heads // self.config.num_kv_heads, dim=0)

    def attend(self, q, k, v):
        """q [T, nh, 256], k and v [nh, S, 256] -> [T, nh, 256]; the last query sees every key."""
        scores = q.transpose(0, 1) @ k.transpose(1, 2) * self.softmax_scale()
        queries, keys = scores.shape[1:]
        future = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
        p = scores.masked_fill(future, float("-inf")).softmax(-1)
        return (p @ v).transpose(0, 1)

    def softmax_scale(self):
        return self.config.head_dim**-0.5

    def gate_attention(self, o, gate):
        return o * torch.sigmoid(gate)

    # --- 3.5: Gated DeltaNet ---

    def delta_net(self, i, x, state):
        c = self.config
        mixed = self.linear(i, "linear_attn.in_proj_qkv", x)
        z = self.linear(i, "linear_attn.in_proj_z", x).view(-1, c.num_value_heads, c.value_dim)
        b = self.linear(i, "linear_attn.in_proj_b", x)
        a = self.linear(i, "linear_attn.in_proj_a", x)
        q, k, v = self.split_qkv(self.convolve(i, mixed, state))
        q, k = self.scale_query(self.l2norm(q)), self.l2norm(k)
        q, k = self.heads_for_values(q), self.heads_for_values(k)
        beta = self.beta(b)
        g = self.log_decay(a, self.weight(i, "linear_attn.A_log"), self.weight(i, "linear_attn.dt_bias"))
        o = self.delta_rule(i, q, k, v, g, beta, state)
        o = self.gated_norm(o, z, self.weight(i, "linear_attn.norm.weight"))
        return self.linear(i, "linear_attn.out_proj", o.reshape(len(x), -1))

    def convolve(self, i, mixed, state):
        """Depthwise causal convolution and SiLU over all channels; w[c, 3] multiplies the current token."""
        kernel = self.config.conv_kernel
        before = self.conv_history(i, mixed, state)
        rows = torch.cat([before, mixed])
        state.conv[i] = rows[-(kernel - 1) :]
        w = self.conv_weight(i)
        u = sum(w[:, j] * rows[j : j + len(mixed)] for j in range(kernel))
        return self.conv_activation(u)

    def conv_history(self, i, mixed, state):
        if state.conv[i] is None:
            return mixed.new_zeros(self.config.conv_kernel - 1, mixed.shape[1])
        return state.conv[i]

    def conv_weight(self, i):
        return self.weight(i, "linear_attn.conv1d.weight")

    def conv_activation(self, u):
        return F.silu(u)

    def split_qkv(self, y):
        """[T, channels] -> q, k [T, Hk, dk], v [T, Hv, dv]: all queries, all keys, all values."""
        c = self.config
        width = c.num_key_heads * c.key_dim
        q, k, v = y.split([width, width, c.num_value_heads * c.value_dim], dim=-1)
        return (
            q.view(-1, c.num_key_heads, c.key_dim),
            k.view(-1, c.num_key_heads, c.key_dim),
            v.view(-1, c.num_value_heads, c.value_dim),
        )

    def l2norm(self, x):
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + L2_EPS)

    def scale_query(self, q):
        return q * self.config.key_dim**-0.5

    def heads_for_values(self, x):
        """Value head h uses key head h // (Hv / Hk)."""
        return x.repeat_interleave(self.config.num_value_heads // self.config.num_key_heads, dim=1)

    def beta(self, b):
        return torch.sigmoid(b)

    def log_decay(self, a, a_log, dt_bias):
        return -torch.exp(a_log) * self.softplus(a + dt_bias)

    def softplus(self, x):
        return F.softplus(x, beta=1, threshold=20)

    def delta_rule(self, i, q, k, v, g, beta, state):
        """q, k [T, Hv, dk], v [T, Hv, dv], g, beta [T, Hv] -> [T, Hv, dv]; one token: recurrent, else chunks."""
        if state.delta[i] is None:
            c = self.config
            state.delta[i] = v.new_zeros(c.num_value_heads, c.key_dim, c.value_dim)
        rule = self.recurrent_rule if len(q) == 1 else self.chunked_rule
        o, state.delta[i] = rule(q, k, v, g, beta, state.delta[i])
        return o

    def recurrent_rule(self, q, k, v, g, beta, s):
        """3.5.6, token by token; s [Hv, dk, dv]."""
        out = []
        for t in range(len(q)):
            s = torch.exp(g[t])[:, None, None] * s
            s = self.delta_update(s, k[t], v[t], beta[t])
            out.append(torch.einsum("hkv,hk->hv", s, q[t]))
        return torch.stack(out), s

    def delta_update(self, s, k, v, beta):
        delta = beta[:, None] * (v - torch.einsum("hkv,hk->hv", s, k))
        return s + k[:, :, None] * delta[:, None, :]

    def chunked_rule(self, q, k, v, g, beta, s):
        """3.5.7, 64 tokens at a time; the last chunk is simply shorter."""
        out = []
        for t in range(0, len(q), CHUNK):
            piece = [x[t : t + CHUNK].transpose(0, 1) for x in (q, k, v, g, beta)]
            o, s = self.chunk(*piece, s)
            out.append(o.transpose(0, 1))
        return torch.cat(out), s

    def chunk(self, q, k, v, g, beta, s):
        """One chunk; q, k, v [Hv, n, d], g, beta [Hv, n], s [Hv, dk, dv]."""
        total = g.cumsum(-1)
        decay, since = self.decay_matrix(total), self.decay_from_start(total)
        system = beta[:, :, None] * (k @ k.transpose(1, 2)) * decay
        system = system.tril(-1) + torch.eye(q.shape[1], dtype=q.dtype)
        right = torch.cat([beta[:, :, None] * v, (beta * since)[:, :, None] * k], dim=-1)
        solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
        u, w = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
        new = u - w @ s
        o = (q * since[:, :, None]) @ s + ((q @ k.transpose(1, 2)) * decay) @ new
        keys = k * self.decay_to_end(total)[:, :, None]
        s = total[:, -1].exp()[:, None, None] * s + keys.transpose(1, 2) @ new
        return o, s

    def decay_from_start(self, total):
        return total.exp()

    def decay_to_end(self, total):
        return (total[:, -1:] - total).exp()

    def decay_matrix(self, total):
        """exp(G_i - G_j) for i >= j, else 0; masked before exp, since the other half overflows."""
        difference = total[:, :, None] - total[:, None, :]
        upper = torch.ones(difference.shape[1:], dtype=torch.bool).triu(1)
        return difference.masked_fill(upper, float("-inf")).exp()

    def gated_norm(self, o, z, w):
        """Norm first, then the gate; a plain weight."""
        return self.plain_norm(o) * w * F.silu(z)

    def plain_norm(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config.eps)

    # --- 3.6, 3.7: dense and routed feed-forward ---

    def mlp(self, i, prefix, x):
        gate, up = self.linear(i, prefix + "gate_proj", x), self.linear(i, prefix + "up_proj", x)
        return self.linear(i, prefix + "down_proj", F.silu(gate) * up)

    def moe(self, i, x):
        weights, experts = self.route(self.linear(i, "mlp.gate", x))
        return self.routed(i, x, weights, experts) + self.shared(i, x)

    def route(self, logits):
        """[T, E] -> weights and experts [T, k]: softmax over all, the largest k, renormalised."""
        k = self.config.num_experts_per_tok
        ordered = logits.sort(-1, descending=True).values
        if k < logits.shape[1]:
            self.routing_gap = min(self.routing_gap, (ordered[:, k - 1] - ordered[:, k]).min().item())
        weights, experts = logits.softmax(-1).topk(k, dim=-1)
        return self.renormalise(weights), experts

    def renormalise(self, weights):
        return weights / weights.sum(-1, keepdim=True) if self.config.norm_topk_prob else weights

    def routed(self, i, x, weights, experts):
        out = torch.zeros_like(x)
        for e in experts.unique().tolist():
            row, slot = torch.where(experts == e)
            out.index_add_(0, row, weights[row, slot, None] * self.expert(i, e, x[row]))
        return out

    def expert(self, i, e, x):
        gate, up = self.split_gate_up(x @ self.weight(i, "mlp.experts.gate_up_proj")[e].T)
        return (F.silu(gate) * up) @ self.weight(i, "mlp.experts.down_proj")[e].T

    def split_gate_up(self, both):
        return both.chunk(2, dim=-1)

    def shared(self, i, x):
        return self.shared_gate(i, x) * self.mlp(i, "mlp.shared_expert.", x)

    def shared_gate(self, i, x):
        return torch.sigmoid(self.linear(i, "mlp.shared_expert_gate", x))
