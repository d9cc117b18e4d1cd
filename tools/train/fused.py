"""What lies between the matrix products of a layer: one pass each on a CPU (fused*.cc), plain torch elsewhere.

Each function has two bodies that check_equal.py compares: the plain one is what it means. `use_fused()` compiles
fused.cc and fused_matrices.cc with the machine's C++ compiler and switches f32 tensors on the CPU to them.
"""

import ctypes
import pathlib
import subprocess
import tempfile

import torch
import torch.nn.functional as F

import delta

library = None  # of the C++ files, once use_fused() has been called


def use_fused():
    global library
    sources = [str(pathlib.Path(__file__).with_name(name)) for name in ("fused.cc", "fused_matrices.cc")]
    with tempfile.TemporaryDirectory() as folder:
        target = f"{folder}/fused.so"
        subprocess.run(["c++", "-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-shared", "-fPIC",
                        "-std=c++20", *sources, "-o", target, "-lmvec", "-lm"], check=True)
        library = ctypes.CDLL(target)


def call(name, *arguments):
    """Tensors go as pointers (they must be contiguous where the function says so), floats as f32, integers as i64."""
    converted = []
    for value in arguments:
        if isinstance(value, torch.Tensor):
            converted.append(ctypes.c_void_p(value.data_ptr()))
        else:
            converted.append(ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value))
    getattr(library, name)(*converted)


def plain_prepare(proj, conv, heads, dim):
    batch, length, _ = proj.shape
    width = 3 * heads * dim
    padded = F.pad(proj[..., :width], (0, 0, conv.shape[1] - 1, 0))
    total = padded[:, :length] * conv[:, 0]
    for tap in range(1, conv.shape[1]):
        total = total + padded[:, tap:tap + length] * conv[:, tap]
    q, k, v = F.silu(total).view(batch, length, 3, heads, dim).permute(2, 0, 3, 1, 4)
    unit_q = q * torch.rsqrt(q.square().sum(-1, keepdim=True) + 1e-6) * dim**-0.5
    unit_k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + 1e-6)
    return unit_q, unit_k, v, proj[..., width:width + heads * dim], proj[..., width + heads * dim:]


class Prepare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, proj, conv, heads, dim):
        proj = proj.contiguous()
        batch, length, stride = proj.shape
        qkv = proj.new_empty(3, batch, heads, length, dim)
        z = proj.new_empty(batch, length, heads * dim)
        call("PrepareForward", proj, conv, batch, length, heads, dim, stride, qkv, z)
        ctx.save_for_backward(proj, conv)
        ctx.heads, ctx.dim = heads, dim
        return qkv[0], qkv[1], qkv[2], z, proj[..., 4 * heads * dim:].clone()

    @staticmethod
    def backward(ctx, d_q, d_k, d_v, d_z, d_gates):
        proj, conv = ctx.saved_tensors
        batch, length, stride = proj.shape
        d_proj, d_conv = torch.empty_like(proj), torch.zeros_like(conv)
        d_proj[..., 4 * ctx.heads * ctx.dim:] = d_gates
        call("PrepareBackward", proj, conv, d_q.contiguous(), d_k.contiguous(), d_v.contiguous(), d_z.contiguous(),
             batch, length, ctx.heads, ctx.dim, stride, d_proj, d_conv)
        return d_proj, d_conv, None, None


def prepare(proj, conv, heads, dim):
    """The causal convolution over 4 tokens, SiLU, unit length, and the split of a GDN layer's projections.

    proj [b, t, 4 h dim + rest], conv [3 h dim, 4] -> q (scaled by dim^-0.5), k, v [b, h, t, dim], z [b, t, h dim] and
    the rest [b, t, rest]."""
    return Prepare.apply(proj, conv, heads, dim) if library else plain_prepare(proj, conv, heads, dim)


def plain_gated_norm(x, z, weight, eps):
    unit = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight
    return unit.transpose(1, 2).flatten(2) * F.silu(z)


class GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, z, weight, eps):
        x, z = x.contiguous(), z.contiguous()
        out = torch.empty_like(z)
        call("GatedNormForward", x, z, weight, eps, *x.shape, out)
        ctx.save_for_backward(x, z, weight)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx, d_out):
        x, z, weight = ctx.saved_tensors
        d_x, d_z, d_weight = torch.empty_like(x), torch.empty_like(z), torch.zeros_like(weight)
        call("GatedNormBackward", x, z, weight, d_out.contiguous(), ctx.eps, *x.shape, d_x, d_z, d_weight)
        return d_x, d_z, d_weight, None


def gated_norm(x, z, weight, eps):
    """x [b, h, t, d], z [b, t, h d] -> [b, t, h d]: the norm (weight as it is), then silu(z)."""
    return GatedNorm.apply(x, z, weight, eps) if library else plain_gated_norm(x, z, weight, eps)


def plain_rms_norm(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], 1 + weight, eps)


class RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        rows = x.reshape(-1, x.shape[-1])
        rows = rows if rows.stride(-1) == 1 else rows.contiguous()
        out = x.new_empty(x.shape)
        call("RmsNormForward", rows, weight, eps, rows.shape[0], rows.stride(0), rows.shape[1], out)
        ctx.save_for_backward(rows, weight)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx, d_out):
        rows, weight = ctx.saved_tensors
        d_out = d_out.contiguous()
        d_x, d_weight = torch.empty_like(d_out), torch.zeros_like(weight)
        call("RmsNormBackward", rows, weight, d_out, ctx.eps, rows.shape[0], rows.stride(0), rows.shape[1], d_x,
             d_weight)
        return d_x, d_weight, None


def rms_norm(x, weight, eps):
    """x / rms(x) * (1 + weight) over the last dimension."""
    return RmsNorm.apply(x, weight, eps) if library else plain_rms_norm(x, weight, eps)


def plain_swiglu(hidden):
    gate, up = hidden.chunk(2, dim=-1)
    return F.silu(gate) * up


def swiglu_forward(hidden):
    """hidden [n, 2 i] -> silu(gate) * up [n, i], outside of autograd."""
    if not library:
        return plain_swiglu(hidden)
    out = hidden.new_empty(hidden.shape[0], hidden.shape[1] // 2)
    call("SwigluForward", hidden, out.shape[0], out.shape[1], out)
    return out


def swiglu_backward(hidden, d_out):
    if library:
        d_hidden = torch.empty_like(hidden)
        call("SwigluBackward", hidden, d_out, d_out.shape[0], d_out.shape[1], d_hidden)
        return d_hidden
    gate, up = hidden.chunk(2, dim=-1)
    sigmoid = gate.sigmoid()
    swish = gate * sigmoid
    return torch.cat([d_out * up * (sigmoid + swish * (1 - sigmoid)), d_out * swish], dim=-1)


class Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden):
        hidden = hidden.contiguous()
        ctx.save_for_backward(hidden)
        return swiglu_forward(hidden)

    @staticmethod
    def backward(ctx, d_out):
        return swiglu_backward(ctx.saved_tensors[0], d_out.contiguous())


def swiglu(hidden):
    """hidden [n, 2 i] -> silu(gate) * up [n, i]."""
    return Swiglu.apply(hidden)


class DeltaRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, g, beta):
        inputs = [value.contiguous() for value in (q, k, v, g, beta)]
        batch, heads, length, dim = q.shape
        out, solved = torch.empty_like(inputs[0]), torch.empty_like(inputs[0])
        call("DeltaForward", *inputs, batch * heads, length, dim, out, solved)
        ctx.save_for_backward(*inputs, solved)
        return out

    @staticmethod
    def backward(ctx, d_out):
        *inputs, solved = ctx.saved_tensors
        batch, heads, length, dim = d_out.shape
        gradients = [torch.empty_like(value) for value in inputs]
        call("DeltaBackward", *inputs, solved, d_out.contiguous(), batch * heads, length, dim, *gradients)
        return tuple(gradients)


def delta_rule(q, k, v, g, beta):
    """q (scaled), k, v [b, h, t, d]; g, beta [b, h, t] -> [b, h, t, d]; see delta.py."""
    return (DeltaRule.apply if library else delta.chunked_delta_rule)(q, k, v, g, beta)


class GatedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, queries, keys, values, q_weight, k_weight, cos, sin, eps):
        batch, length, heads, dim = queries.shape
        dim //= 2
        kv_heads, half = keys.shape[2], cos.shape[-1]
        queries, keys, v = queries.contiguous(), keys.contiguous(), values.transpose(1, 2).contiguous()
        q, k = queries.new_empty(batch, heads, length, dim), torch.empty_like(v)
        sizes = [half, heads * 2 * dim, 2 * dim]
        call("NormRotateForward", queries, q_weight, cos, sin, eps, batch, length, heads, dim, *sizes, q)
        call("NormRotateForward", keys, k_weight, cos, sin, eps, batch, length, kv_heads, dim, half, kv_heads * dim,
             dim, k)
        mixed, out = torch.empty_like(q), queries.new_empty(batch, length, heads * dim)
        weights = q.new_empty(batch, heads, length, (length + 15) // 16 * 16)
        call("AttentionForward", q, k, v, batch, heads, kv_heads, length, dim, mixed, weights)
        call("GateForward", mixed, queries[..., dim:], batch, heads, length, dim, *sizes[1:], out)
        ctx.save_for_backward(queries, keys, q_weight, k_weight, cos, sin, q, k, v, mixed, weights)
        ctx.eps, ctx.sizes = eps, sizes
        return out

    @staticmethod
    def backward(ctx, d_out):
        queries, keys, q_weight, k_weight, cos, sin, q, k, v, mixed, weights = ctx.saved_tensors
        batch, heads, length, dim = q.shape
        kv_heads, half = k.shape[1], ctx.sizes[0]
        d_queries, d_keys, d_mixed, d_q = (torch.empty_like(t) for t in (queries, keys, mixed, q))
        d_k, d_v, d_q_weight, d_k_weight = (torch.zeros_like(t) for t in (k, v, q_weight, k_weight))
        call("GateBackward", mixed, queries[..., dim:], d_out.contiguous(), batch, heads, length, dim, *ctx.sizes[1:],
             d_mixed, d_queries[..., dim:])
        call("AttentionBackward", q, k, v, weights, d_mixed, batch, heads, kv_heads, length, dim, d_q, d_k, d_v)
        call("NormRotateBackward", queries, q_weight, cos, sin, d_q, ctx.eps, batch, length, heads, dim, *ctx.sizes,
             d_queries, d_q_weight)
        call("NormRotateBackward", keys, k_weight, cos, sin, d_k, ctx.eps, batch, length, kv_heads, dim, half,
             kv_heads * dim, dim, d_keys, d_k_weight)
        return d_queries, d_keys, d_v.transpose(1, 2), d_q_weight, d_k_weight, None, None, None


def rotate(x, cos, sin):
    half = cos.shape[-1]
    first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def plain_gated_attention(queries, keys, values, q_weight, k_weight, cos, sin, eps):
    q, gate = queries.chunk(2, dim=-1)
    q = rotate(plain_rms_norm(q, q_weight, eps), cos.unsqueeze(1), sin.unsqueeze(1))
    k = rotate(plain_rms_norm(keys, k_weight, eps), cos.unsqueeze(1), sin.unsqueeze(1))
    q, k, v = (t.transpose(1, 2) for t in (q, k, values))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return (out.transpose(1, 2) * gate.sigmoid()).flatten(2)


def gated_attention(queries, keys, values, q_weight, k_weight, cos, sin, eps):
    """Causal attention of a full layer, between its projections.

    queries [b, t, h, 2 d] (a head's query, then its gate), keys and values [b, t, h_kv, d]; cos, sin [t, rotary / 2]
    -> [b, t, h d]."""
    body = GatedAttention.apply if library else plain_gated_attention
    return body(queries, keys, values, q_weight, k_weight, cos, sin, eps)
