"""The gated delta rule in chunks, batched, in plain torch: what training uses instead of transformers' fallback.

check_equal.py shows that it equals transformers' `torch_chunk_gated_delta_rule`. Formulas: Yang et al., Gated Delta
Networks (2024), section 3.3.
"""

import torch

CHUNK = 64


def decays(g):
    """g [.., c] -> (G [.., c], D [.., c, c]): inclusive sums, and exp(G_i - G_j) where i >= j, else 0."""
    sums = g.cumsum(-1)
    size = g.shape[-1]
    upper = torch.ones(size, size, dtype=torch.bool, device=g.device).triu(1)
    return sums, (sums.unsqueeze(-1) - sums.unsqueeze(-2)).masked_fill(upper, float("-inf")).exp()


def one_chunk(q, k, v, g, beta, state, last):
    """q, k, v [b, h, c, 128], g, beta [b, h, c]; state [b, h, 128, 128] or None for zeros.

    Returns (output [b, h, c, 128], the state after the chunk, or None where it is the last)."""
    sums, between = decays(g)
    keys_t = k.transpose(-1, -2)
    system = (k @ keys_t) * (between * beta.unsqueeze(-1))  # the solver reads below the diagonal alone
    grown = sums.exp().unsqueeze(-1)
    new = v if state is None else v - (k * grown) @ state  # one solve for U - W S
    new = new * beta.unsqueeze(-1)
    new = torch.linalg.solve_triangular(system, new, upper=False, unitriangular=True)
    out = ((q @ keys_t) * between) @ new
    if state is not None:
        out = out + (q * grown) @ state
    if last:
        return out, None
    end = sums[..., -1:]
    added = (k * (end - sums).exp().unsqueeze(-1)).transpose(-1, -2) @ new
    return out, added if state is None else added + state * end.exp().unsqueeze(-1)


def chunked_delta_rule(q, k, v, g, beta, chunk=CHUNK):
    """q (scaled), k (both of unit length), v [b, h, t, 128]; g (log decay), beta [b, h, t] -> [b, h, t, 128]."""
    length = q.shape[2]
    outputs, state = [], None
    for begin in range(0, length, chunk):
        part = slice(begin, min(begin + chunk, length))
        out, state = one_chunk(q[:, :, part], k[:, :, part], v[:, :, part], g[..., part], beta[..., part], state,
                               last=part.stop == length)
        outputs.append(out)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
