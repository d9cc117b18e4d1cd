"""Known mistakes in embedding, norms, residual stream, head, attention and feed-forward (see `mutations.py`)."""

import torch
import torch.nn.functional as F

from mutations import bf16, mistake


def names(m, suffix):
    return [name for name in m.tensors if name.endswith(suffix)]


# --- 2.7, 3.1, 3.2, 3.3, 3.8: weights, embedding, norms, residual stream, head ---


@mistake("2.7", "Qwen3-Next: in_proj_qkvz taken as q, k, v, z one after the other")
def next_contiguous_qkvz(m):
    if m.config.model_type != "qwen3_next":
        return
    c = m.config
    q, v = c.num_key_heads * c.key_dim, c.num_value_heads * c.value_dim
    ratio = c.num_value_heads // c.num_key_heads
    for name in names(m, "in_proj_qkv.weight"):
        base = name[: -len("in_proj_qkv.weight")]
        heads = [x.view(c.num_key_heads, -1, x.shape[1]) for x in m.tensors[name].split([q, q, v])]
        heads.append(m.tensors[base + "in_proj_z.weight"].view(c.num_key_heads, ratio * c.value_dim, -1))
        stored = torch.cat(heads, dim=1).flatten(0, 1)
        m.tensors[name], m.tensors[base + "in_proj_z.weight"] = stored.split([2 * q + v, v])


@mistake("2.7", "Qwen3-Next: in_proj_ba taken as all b, then all a")
def next_contiguous_ba(m):
    if m.config.model_type != "qwen3_next":
        return
    heads = m.config.num_key_heads
    for name in names(m, "in_proj_b.weight"):
        other = name.replace("in_proj_b", "in_proj_a")
        parts = [m.tensors[n].view(heads, -1, m.config.hidden_size) for n in (name, other)]
        m.tensors[name], m.tensors[other] = torch.cat(parts, dim=1).flatten(0, 1).chunk(2)


@mistake("2.7", "Qwen3-Next: a before b")
def next_a_before_b(m):
    if m.config.model_type != "qwen3_next":
        return
    for name in names(m, "in_proj_b.weight"):
        other = name.replace("in_proj_b", "in_proj_a")
        m.tensors[name], m.tensors[other] = m.tensors[other], m.tensors[name]


@mistake("3.1", "embedding multiplied by sqrt(hidden_size)")
def scaled_embedding(m):
    m.tensors["embed_tokens.weight"] = m.tensors["embed_tokens.weight"] * m.config.hidden_size**0.5


@mistake("3.2", "norm weight w in place of 1 + w")
def norm_plain_weight(m):
    m.rms1p = lambda x, w: m.plain_norm(x) * w


@mistake("3.2", "1 + w twice (2 + w)")
def norm_twice(m):
    m.rms1p = lambda x, w: m.plain_norm(x) * (2 + w)


@mistake("3.2", "1 + w folded into a bf16 tensor")
def norm_bf16_weight(m):
    m.rms1p = lambda x, w: m.plain_norm(x) * bf16(1 + w)


@mistake("3.2", "rms_norm_eps of the config ignored: 1e-6")
def norm_fixed_eps(m):
    m.config.eps = 1e-6


@mistake("3.2", "rms_norm_eps left out of the norms")
def norm_no_eps(m):
    m.config.eps = 0.0


@mistake("3.2", "mean subtracted (LayerNorm)")
def norm_centred(m):
    m.rms1p = lambda x, w: m.plain_norm(x - x.mean(-1, keepdim=True)) * (1 + w)


@mistake("3.3", "residual missing around the mixer")
def no_mixer_residual(m):
    m.add_mixer = lambda i, x, s: m.mixer(i, m.rms1p(x, m.weight(i, "input_layernorm.weight")), s)


@mistake("3.3", "residual missing around the feed-forward")
def no_ffn_residual(m):
    whole = m.add_ffn
    m.add_ffn = lambda i, x: whole(i, x) - x


@mistake("3.3", "post_attention_layernorm applied to the mixer's output")
def post_norm(m):
    def layer(i, x, state):
        h = m.mixer(i, m.rms1p(x, m.weight(i, "input_layernorm.weight")), state)
        x = x + m.rms1p(h, m.weight(i, "post_attention_layernorm.weight"))
        return x + (m.moe(i, x) if m.config.num_experts else m.mlp(i, "mlp.", x))

    m.layer = layer


@mistake("3.3", "feed-forward beside the mixer, not after it")
def parallel_layer(m):
    m.layer = lambda i, x, state: m.add_mixer(i, x, state) + m.add_ffn(i, x) - x


@mistake("3.3", "residual taken after the norm")
def residual_after_norm(m):
    def add_mixer(i, x, state):
        h = m.rms1p(x, m.weight(i, "input_layernorm.weight"))
        return h + m.mixer(i, h, state)

    m.add_mixer = add_mixer


@mistake("3.8", "final norm missing")
def no_final_norm(m):
    m.head = lambda x: x @ m.tensors["lm_head.weight"].T


@mistake("2.6", "the embedding used as head although a head is stored")
def always_tied(m):
    m.tensors["lm_head.weight"] = m.tensors["embed_tokens.weight"]


# --- 3.4: gated attention ---


@mistake("3.4", "q_proj split into halves of the matrix, not of each head")
def query_gate_halves(m):
    def split(qg):
        return qg.view(len(qg), 2, m.config.num_heads, m.config.head_dim).unbind(1)

    m.split_query_gate = split


@mistake("3.4", "query and gate exchanged")
def gate_first(m):
    split = m.split_query_gate
    m.split_query_gate = lambda qg: tuple(reversed(split(qg)))


@mistake("3.4", "attention gate by SiLU, not sigmoid")
def gate_silu(m):
    m.gate_attention = lambda o, gate: o * F.silu(gate)


@mistake("3.4", "attention gate missing")
def no_gate(m):
    m.gate_attention = lambda o, gate: o


@mistake("3.4", "attention gate on the queries, before attention")
def gate_early(m):
    split, rotate = m.split_query_gate, m.norm_and_rotate
    gates = []

    def remember(qg):
        q, gate = split(qg)
        gates.append(gate)
        return q, gate

    def gated(i, q, k, state):
        q, k = rotate(i, q, k, state)
        return q * torch.sigmoid(gates.pop()), k

    m.split_query_gate, m.norm_and_rotate = remember, gated
    m.gate_attention = lambda o, gate: o


def with_norms(m, query, key):
    """Replaces what is done to q and k before the cache: `query(q, w, positions)`, likewise for k."""

    def both(i, q, k, state):
        positions = m.positions(len(q), state)
        q_norm, k_norm = m.weight(i, "self_attn.q_norm.weight"), m.weight(i, "self_attn.k_norm.weight")
        return query(q, q_norm, positions), key(k, k_norm, positions)

    m.norm_and_rotate = both


@mistake("3.4", "q_norm missing")
def no_q_norm(m):
    with_norms(m, lambda x, w, p: m.rotate(x, p), lambda x, w, p: m.rotate(m.rms1p(x, w), p))


@mistake("3.4", "k_norm missing")
def no_k_norm(m):
    with_norms(m, lambda x, w, p: m.rotate(m.rms1p(x, w), p), lambda x, w, p: m.rotate(x, p))


@mistake("3.4", "q and k normalised after the rotation")
def norm_after_rotation(m):
    late = lambda x, w, p: m.rms1p(m.rotate(x, p), w)
    with_norms(m, late, late)


@mistake("3.4", "q_norm over all heads together")
def q_norm_all_heads(m):
    def joint(x, w, p):
        scale = torch.rsqrt(x.square().mean((-2, -1), keepdim=True) + m.config.eps)
        return m.rotate(x * scale * (1 + w), p)

    with_norms(m, joint, lambda x, w, p: m.rotate(m.rms1p(x, w), p))


@mistake("3.4", "rotation missing")
def no_rotation(m):
    m.rotate = lambda x, positions: x


@mistake("3.4", "rotation of all 256 dims")
def rotate_all(m):
    m.config.rotary_dim = m.config.head_dim


@mistake("3.4", "rotation of the last 64 dims")
def rotate_last(m):
    rotate = m.rotate
    m.rotate = lambda x, p: rotate(x.roll(m.config.rotary_dim, -1), p).roll(-m.config.rotary_dim, -1)


@mistake("3.4", "rotation pairs neighbours (2d, 2d + 1)")
def rotate_neighbours(m):
    def parts(x):
        turned, rest = x[..., : m.config.rotary_dim], x[..., m.config.rotary_dim :]
        return turned[..., 0::2], turned[..., 1::2], rest

    m.rotary_parts = parts
    m.join_rotary = lambda a, b, rest: torch.cat([torch.stack([a, b], -1).flatten(-2), rest], -1)


@mistake("3.4", "rotation pairs d with d + 128")
def rotate_far(m):
    def parts(x):
        half, far = m.config.rotary_dim // 2, m.config.head_dim // 2
        rest = torch.cat([x[..., half:far], x[..., far + half :]], -1)
        return x[..., :half], x[..., far : far + half], rest

    def join(a, b, rest):
        near = m.config.head_dim // 2 - m.config.rotary_dim // 2
        return torch.cat([a, rest[..., :near], b, rest[..., near:]], -1)

    m.rotary_parts, m.join_rotary = parts, join


@mistake("3.4", "rotation the other way for queries only")
def rotate_backwards(m):
    ahead = lambda x, w, p: m.rotate(m.rms1p(x, w), p)
    with_norms(m, lambda x, w, p: m.rotate(m.rms1p(x, w), -p), ahead)


@mistake("3.4", "rope_theta of the config ignored: 10,000,000")
def fixed_theta(m):
    m.config.rope_theta = 1e7


@mistake("3.4", "rope_theta 10,000")
def default_theta(m):
    m.config.rope_theta = 1e4


@mistake("3.4", "rotary exponent divided by head_dim, not by the rotary dims")
def rotary_denominator(m):
    def angles(positions):
        half = torch.arange(0, m.config.rotary_dim, 2, dtype=torch.float32)
        return positions[:, None].float() / m.config.rope_theta ** (half / m.config.head_dim)

    m.angles = angles


@mistake("3.4", "positions begin again at every piece of a prompt")
def positions_restart(m):
    m.positions = lambda count, state: torch.arange(count)


@mistake("3.4", "decode positions one too far for the new query and key")
def decode_position(m):
    whole = m.positions
    m.positions = lambda count, state: whole(count, state) + (1 if count == 1 else 0)


@mistake("3.4", "scores multiplied by 64^-0.5")
def scale_rotary(m):
    m.softmax_scale = lambda: m.config.rotary_dim**-0.5


@mistake("3.4", "query head h uses KV head h % nkv")
def kv_modulo(m):
    m.kv_for_queries = lambda kv: kv.repeat(m.config.num_heads // m.config.num_kv_heads, 1, 1)


@mistake("3.4", "v normalised like k")
def v_norm(m):
    append = m.append_kv
    m.append_kv = lambda i, k, v, s: append(i, k, m.rms1p(v, m.weight(i, "self_attn.k_norm.weight")), s)


@mistake("3.4", "a query sees the key after its own")
def sees_next(m):
    def attend(q, k, v):
        scores = q.transpose(0, 1) @ k.transpose(1, 2) * m.softmax_scale()
        queries, keys = scores.shape[1:]
        future = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 2)
        return (scores.masked_fill(future, float("-inf")).softmax(-1) @ v).transpose(0, 1)

    m.attend = attend


@mistake("3.4", "keys of earlier pieces forgotten")
def forget_kv(m):
    append = m.append_kv

    def forget(i, k, v, state):
        state.keys[i] = None
        return append(i, k, v, state)

    m.append_kv = forget


# --- 3.6, 3.7: feed-forward ---


@mistake("3.6", "gate and up exchanged")
def up_for_gate(m):
    swap = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    linear = m.linear

    def swapped(i, name, x):
        head, _, tail = name.rpartition(".")
        return linear(i, f"{head}.{swap.get(tail, tail)}", x)

    m.linear = swapped


@mistake("3.7", "weights of the chosen experts not renormalised")
def no_renormalise(m):
    m.renormalise = lambda weights: weights


@mistake("3.7", "norm_topk_prob false of Qwen3-Next ignored")
def always_renormalise(m):
    m.renormalise = lambda weights: weights / weights.sum(-1, keepdim=True)


@mistake("3.7", "router by sigmoid, not softmax")
def sigmoid_router(m):
    def route(logits):
        weights, experts = logits.sigmoid().topk(m.config.num_experts_per_tok, dim=-1)
        return m.renormalise(weights), experts

    m.route = route


@mistake("3.7", "one expert too few")
def one_expert_less(m):
    m.config.num_experts_per_tok = max(1, m.config.num_experts_per_tok - 1)


@mistake("3.7", "weights given to the chosen experts in the wrong order")
def wrong_slot(m):
    route = m.route
    m.route = lambda logits: (lambda w, e: (w.flip(-1), e))(*route(logits))


@mistake("3.7", "experts off by one")
def next_expert(m):
    expert = m.expert
    m.expert = lambda i, e, x: expert(i, (e + 1) % m.config.num_experts, x)


@mistake("2.2", "gate_up_proj taken as up, then gate")
def up_first(m):
    m.split_gate_up = lambda both: tuple(reversed(both.chunk(2, dim=-1)))


@mistake("2.2", "gate_up_proj taken as alternating rows")
def gate_up_interleaved(m):
    m.split_gate_up = lambda both: (both[..., 0::2], both[..., 1::2])


@mistake("3.7", "shared expert missing")
def no_shared(m):
    m.shared = lambda i, x: torch.zeros_like(x)


@mistake("3.7", "gate of the shared expert missing")
def no_shared_gate(m):
    m.shared_gate = lambda i, x: 1.0


@mistake("3.7", "gate of the shared expert without its sigmoid")
def raw_shared_gate(m):
    m.shared_gate = lambda i, x: m.linear(i, "mlp.shared_expert_gate", x)


@mistake("3.7", "routed experts missing")
def no_routed(m):
    m.routed = lambda i, x, weights, experts: torch.zeros_like(x)
