"""Known mistakes in Gated DeltaNet: projections, convolution, gates, the rule, its state (see `mutations.py`)."""

import torch
import torch.nn.functional as F

import model as plain
from mutations import bf16, mistake


# --- 3.5.1 to 3.5.5: projections, convolution, norms and gates of Gated DeltaNet ---


@mistake("3.5.1", "in_proj_qkv taken as k, q, v")
def k_before_q(m):
    split = m.split_qkv
    m.split_qkv = lambda y: (lambda q, k, v: (k, q, v))(*split(y))


@mistake("3.5.1", "in_proj_qkv taken as q, k, v of each key head in turn")
def qkv_per_head(m):
    c = m.config

    def split(y):
        values = c.num_value_heads // c.num_key_heads * c.value_dim
        heads = y.view(len(y), c.num_key_heads, 2 * c.key_dim + values)
        q, k, v = heads.split([c.key_dim, c.key_dim, values], dim=-1)
        return q, k, v.reshape(len(y), c.num_value_heads, c.value_dim)

    m.split_qkv = split


@mistake("9.10", "fused q, k, v cut into two contiguous shards")
def contiguous_shards(m):
    split = m.split_qkv
    c = m.config

    def cut(y):
        q, v = c.num_key_heads * c.key_dim // 2, c.num_value_heads * c.value_dim // 2
        shards = [half.split([q, q, v], dim=-1) for half in y.chunk(2, dim=-1)]
        return split(torch.cat([torch.cat(part, -1) for part in zip(*shards)], -1))

    m.split_qkv = cut


@mistake("3.5.2", "convolution reversed: w[c, 0] multiplies the current token")
def conv_reversed(m):
    weight = m.conv_weight
    m.conv_weight = lambda i: weight(i).flip(1)


@mistake("3.5.2", "convolution one token late")
def conv_late(m):
    convolve = m.convolve

    def late(i, mixed, state):
        before = m.conv_history(i, mixed, state)
        rows = torch.cat([before, mixed])
        out = convolve(i, torch.cat([before[-1:], mixed[:-1]]), state)
        state.conv[i] = rows[-(m.config.conv_kernel - 1) :]
        return out

    m.convolve = late


@mistake("3.5.2", "SiLU missing after the convolution")
def no_conv_silu(m):
    m.conv_activation = lambda u: u


@mistake("3.5.2", "SiLU missing on v")
def no_silu_on_v(m):
    width = 2 * m.config.num_key_heads * m.config.key_dim
    m.conv_activation = lambda u: torch.cat([F.silu(u[:, :width]), u[:, width:]], -1)


@mistake("3.5.2", "convolution accumulated in bf16")
def conv_bf16(m):
    def convolve(i, mixed, state):
        rows = torch.cat([m.conv_history(i, mixed, state), mixed])
        state.conv[i] = rows[-(m.config.conv_kernel - 1) :]
        u = torch.zeros_like(mixed)
        for j in range(m.config.conv_kernel):
            u = bf16(u + m.conv_weight(i)[:, j] * rows[j : j + len(mixed)])
        return m.conv_activation(u)

    m.convolve = convolve


@mistake("9.18", "convolution state lost between pieces of a prompt")
def conv_state_lost(m):
    history = m.conv_history

    def lost(i, mixed, state):
        if len(mixed) > 1:
            state.conv[i] = None
        return history(i, mixed, state)

    m.conv_history = lost


@mistake("9.18", "convolution state not moved on in decode")
def conv_state_stale(m):
    convolve = m.convolve

    def stale(i, mixed, state):
        kept = state.conv[i]
        out = convolve(i, mixed, state)
        if len(mixed) == 1 and kept is not None:
            state.conv[i] = kept
        return out

    m.convolve = stale


@mistake("3.5.2", "convolution state holds rows after the convolution")
def conv_state_after(m):
    convolve = m.convolve

    def after(i, mixed, state):
        out = convolve(i, mixed, state)
        keep = m.config.conv_kernel - 1
        state.conv[i] = torch.cat([torch.zeros_like(out[:1]).expand(keep, -1), out])[-keep:]
        return out

    m.convolve = after


@mistake("3.5.3", "value head h uses key head h % Hk")
def heads_modulo(m):
    m.heads_for_values = lambda x: x.repeat(1, m.config.num_value_heads // m.config.num_key_heads, 1)


@mistake("3.5.4", "l2norm missing")
def no_l2norm(m):
    m.l2norm = lambda x: x


@mistake("3.5.4", "l2norm by the mean")
def l2norm_mean(m):
    m.l2norm = lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + plain.L2_EPS)


@mistake("3.5.4", "l2norm without eps")
def l2norm_no_eps(m):
    m.l2norm = lambda x: x * torch.rsqrt(x.square().sum(-1, keepdim=True))


@mistake("3.5.4", "l2norm eps as a floor of the norm")
def l2norm_floor(m):
    m.l2norm = lambda x: x / x.square().sum(-1, keepdim=True).sqrt().clamp_min(plain.L2_EPS)


@mistake("3.5.4", "l2norm as an RMS norm times 128^-0.5 (eps 128 times too large)")
def l2norm_as_rms(m):
    m.l2norm = lambda x: x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 128 * plain.L2_EPS)


@mistake("3.5.4", "l2norm eps outside the root")
def l2norm_eps_outside(m):
    m.l2norm = lambda x: x / (x.square().sum(-1, keepdim=True).sqrt() + plain.L2_EPS)


@mistake("3.5.4", "q not scaled by 128^-0.5")
def q_not_scaled(m):
    m.scale_query = lambda q: q


@mistake("3.5.5", "beta missing")
def no_beta(m):
    m.beta = torch.ones_like


@mistake("3.5.5", "beta without its sigmoid")
def raw_beta(m):
    m.beta = lambda b: b


@mistake("3.5.5", "beta doubled (the variant that allows negative eigenvalues)")
def double_beta(m):
    m.beta = lambda b: 2 * torch.sigmoid(b)


@mistake("9.4", "beta rounded to bf16")
def beta_bf16(m):
    m.beta = lambda b: bf16(torch.sigmoid(b))


@mistake("3.5.5", "b and a exchanged")
def a_for_b(m):
    swap = {"linear_attn.in_proj_a": "linear_attn.in_proj_b", "linear_attn.in_proj_b": "linear_attn.in_proj_a"}
    linear = m.linear
    m.linear = lambda i, name, x: linear(i, swap.get(name, name), x)


@mistake("3.5.5", "A_log with the wrong sign")
def a_log_sign(m):
    decay = m.log_decay
    m.log_decay = lambda a, a_log, dt: decay(a, -a_log, dt)


@mistake("9.9", "A_log taken as A")
def a_log_as_a(m):
    m.log_decay = lambda a, a_log, dt: -a_log * m.softplus(a + dt)


@mistake("9.3", "exp(A_log) rounded to bf16")
def a_bf16(m):
    m.log_decay = lambda a, a_log, dt: -bf16(torch.exp(a_log)) * m.softplus(a + dt)


@mistake("3.5.5", "dt_bias missing")
def no_dt_bias(m):
    decay = m.log_decay
    m.log_decay = lambda a, a_log, dt: decay(a, a_log, torch.zeros_like(dt))


@mistake("3.5.5", "dt_bias added after softplus")
def late_dt_bias(m):
    m.log_decay = lambda a, a_log, dt: -torch.exp(a_log) * (m.softplus(a) + dt)


@mistake("9.5", "softplus linear above 0, not above 20")
def early_linear_softplus(m):
    m.softplus = lambda x: torch.where(x > 0, x, torch.log1p(torch.exp(x)))


@mistake("9.5", "g rounded to bf16 before exp")
def g_bf16(m):
    decay = m.log_decay
    m.log_decay = lambda *x: bf16(decay(*x))


@mistake("3.5.5", "no decay")
def no_decay(m):
    decay = m.log_decay
    m.log_decay = lambda *x: torch.zeros_like(decay(*x))


# --- 3.5.6 to 3.5.9: the rule, its state, the gated norm ---


def token_by_token(m, step):
    """Puts `step(s, q, k, v, g, beta) -> (o, s)` in place of both forms of the rule."""

    def rule(q, k, v, g, beta, s):
        out = []
        for t in range(len(q)):
            o, s = step(s, q[t], k[t], v[t], g[t].exp()[:, None, None], beta[t])
            out.append(o)
        return torch.stack(out), s

    m.recurrent_rule = m.chunked_rule = rule


def read_state(s, q):
    return torch.einsum("hkv,hk->hv", s, q)


@mistake("3.5.6", "decay after the update")
def late_decay(m):
    def step(s, q, k, v, decay, beta):
        s = decay * m.delta_update(s, k, v, beta)
        return read_state(s, q), s

    token_by_token(m, step)


@mistake("3.5.6", "what the state recalls taken before its decay")
def recall_before_decay(m):
    def step(s, q, k, v, decay, beta):
        delta = beta[:, None] * (v - read_state(s, k))
        s = decay * s + k[:, :, None] * delta[:, None, :]
        return read_state(s, q), s

    token_by_token(m, step)


@mistake("3.5.6", "output read before the update")
def read_before_update(m):
    def step(s, q, k, v, decay, beta):
        s = decay * s
        return read_state(s, q), m.delta_update(s, k, v, beta)

    token_by_token(m, step)


@mistake("3.5.6", "no delta: the state only adds beta v")
def no_delta(m):
    def step(s, q, k, v, decay, beta):
        s = decay * s + k[:, :, None] * (beta[:, None] * v)[:, None, :]
        return read_state(s, q), s

    token_by_token(m, step)


@mistake("3.5.6", "beta on v only, not on what the state recalls")
def beta_on_v_only(m):
    def step(s, q, k, v, decay, beta):
        s = decay * s
        s = s + k[:, :, None] * (beta[:, None] * v - read_state(s, k))[:, None, :]
        return read_state(s, q), s

    token_by_token(m, step)


@mistake("3.5.6", "state read as its transpose in decode")
def transposed_state(m):
    rule = m.recurrent_rule

    def transposed(q, k, v, g, beta, s):
        o, s = rule(q, k, v, g, beta, s.transpose(1, 2))
        return o, s.transpose(1, 2)

    m.recurrent_rule = transposed


@mistake("9.7", "decay matrix masked after exp")
def late_mask(m):
    m.decay_matrix = lambda total: (total[:, :, None] - total[:, None, :]).exp() * torch.ones(
        total.shape[-1], total.shape[-1]
    ).tril()


@mistake("3.5.7", "decay matrix without its diagonal")
def no_diagonal(m):
    decay = m.decay_matrix
    m.decay_matrix = lambda total: decay(total).tril(-1)


@mistake("3.5.7", "state not decayed from chunk to chunk")
def chunk_state_kept(m):
    chunk = m.chunk

    def kept(q, k, v, g, beta, s):
        o, new = chunk(q, k, v, g, beta, s)
        return o, new + (1 - g.sum(-1).exp())[:, None, None] * s

    m.chunk = kept


@mistake("3.5.7", "keys not decayed to the end of their chunk in the state's update")
def keys_not_decayed(m):
    m.decay_to_end = torch.ones_like


@mistake("3.5.7", "decay since the chunk's start without the token's own")
def exclusive_sum(m):
    m.decay_from_start = lambda total: torch.cat([torch.zeros_like(total[:, :1]), total[:, :-1]], 1).exp()


@mistake("9.18", "recurrent state lost between pieces of a prompt")
def state_lost(m):
    rule = m.chunked_rule
    m.chunked_rule = lambda q, k, v, g, beta, s: rule(q, k, v, g, beta, torch.zeros_like(s))


@mistake("9.18", "recurrent state not kept in decode")
def state_stale(m):
    rule = m.recurrent_rule
    m.recurrent_rule = lambda q, k, v, g, beta, s: (rule(q, k, v, g, beta, s)[0], s)


@mistake("9.2", "recurrent state kept in bf16")
def state_bf16(m):
    for name in ("recurrent_rule", "chunked_rule"):
        rule = getattr(m, name)

        def rounded(*args, rule=rule):
            o, s = rule(*args)
            return o, bf16(s)

        setattr(m, name, rounded)


@mistake("9.21", "recurrent and convolution state of the slot's last sequence not zeroed")
def dirty_slot(m):
    step = m.step

    def dirty(ids, state):
        if state.length == 0:
            other = plain.State(m.config.num_layers)
            step(list(range(40, 104)), other)
            state.conv, state.delta = other.conv, other.delta
        return step(ids, state)

    m.step = dirty


@mistake("3.5.8", "gated norm with 1 + w")
def gated_norm_plus_one(m):
    m.gated_norm = lambda o, z, w: m.plain_norm(o) * (1 + w) * F.silu(z)


@mistake("3.5.8", "gate before the gated norm")
def gate_before_norm(m):
    m.gated_norm = lambda o, z, w: m.plain_norm(o * F.silu(z)) * w


@mistake("3.5.8", "gated norm's gate by sigmoid, not SiLU")
def gated_norm_sigmoid(m):
    m.gated_norm = lambda o, z, w: m.plain_norm(o) * w * torch.sigmoid(z)


@mistake("3.5.8", "gated norm over all heads together")
def gated_norm_all_heads(m):
    def joint(o, z, w):
        return o * torch.rsqrt(o.square().mean((-2, -1), keepdim=True) + m.config.eps) * w * F.silu(z)

    m.gated_norm = joint


@mistake("3.5.9", "z in the order of another head layout (heads tiled, not grouped)")
def tiled_z(m):
    gated_norm = m.gated_norm
    c = m.config

    def tiled(o, z, w):
        z = z.view(len(z), c.num_key_heads, -1, c.value_dim).transpose(1, 2).reshape(z.shape)
        return gated_norm(o, z, w)

    m.gated_norm = tiled
