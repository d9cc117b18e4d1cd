"""Routed experts with a backward pass of their own: tokens sorted by expert, one matrix product an expert."""

import torch

import fused


class Experts(torch.autograd.Function):
    """x [n, h], weights [n, k] and experts [n, k] of the router, gate_up [e, 2 i, h], down [e, h, i] -> [n, h]."""

    @staticmethod
    def forward(ctx, x, weights, experts, gate_up, down):
        top = experts.shape[1]
        order = experts.flatten().argsort(stable=True)
        counts = torch.bincount(experts.flatten(), minlength=gate_up.shape[0]).tolist()
        token = order // top
        inputs = x[token]
        hidden = x.new_empty(len(order), gate_up.shape[1])
        results = x.new_empty(len(order), x.shape[1])
        begin = 0
        for expert, count in enumerate(counts):
            torch.mm(inputs[begin:begin + count], gate_up[expert].t(), out=hidden[begin:begin + count])
            begin += count
        active = fused.swiglu_forward(hidden)
        begin = 0
        for expert, count in enumerate(counts):
            torch.mm(active[begin:begin + count], down[expert].t(), out=results[begin:begin + count])
            begin += count
        sorted_weights = weights.flatten()[order]
        ctx.save_for_backward(inputs, hidden, active, results, sorted_weights, order, token, gate_up, down)
        ctx.counts, ctx.top, ctx.num_tokens = counts, top, x.shape[0]
        out = torch.zeros_like(x)
        return out.index_add_(0, token, results * sorted_weights.unsqueeze(-1))

    @staticmethod
    def backward(ctx, d_out):
        inputs, hidden, active, results, sorted_weights, order, token, gate_up, down = ctx.saved_tensors
        spread = d_out[token]
        d_weights = torch.empty_like(sorted_weights)
        d_weights[order] = (spread * results).sum(-1)
        d_results = spread * sorted_weights.unsqueeze(-1)
        d_active = torch.empty_like(active)
        d_inputs, d_gate_up, d_down = torch.empty_like(inputs), torch.zeros_like(gate_up), torch.zeros_like(down)
        begin = 0
        for expert, count in enumerate(ctx.counts):
            part = slice(begin, begin + count)
            torch.mm(d_results[part], down[expert], out=d_active[part])
            torch.mm(d_results[part].t(), active[part], out=d_down[expert])
            begin += count
        d_hidden = fused.swiglu_backward(hidden, d_active)
        begin = 0
        for expert, count in enumerate(ctx.counts):
            part = slice(begin, begin + count)
            torch.mm(d_hidden[part], gate_up[expert], out=d_inputs[part])
            torch.mm(d_hidden[part].t(), inputs[part], out=d_gate_up[expert])
            begin += count
        d_x = d_inputs.new_zeros(ctx.num_tokens, d_inputs.shape[1]).index_add_(0, token, d_inputs)
        return d_x, d_weights.view(-1, ctx.top), None, d_gate_up, d_down


def route(logits, top):
    """(weights [n, k] that sum to 1, experts [n, k], the load-balancing loss of Switch Transformers)."""
    probabilities = logits.softmax(-1)
    values, experts = probabilities.topk(top, dim=-1)
    count = logits.shape[-1]
    share = torch.bincount(experts.flatten(), minlength=count).to(logits.dtype) / experts.numel()
    balance = count * (share * probabilities.mean(0)).sum()
    return values / values.sum(-1, keepdim=True), experts, balance
