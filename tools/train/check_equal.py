"""Shows that the trainer's model is transformers' model: the delta rule alone, and whole models.

    check_equal.py [--folder FOLDER]     random weights without --folder

The delta rule is compared with transformers' fallback, outputs and gradients; the model with Qwen3_5MoeForCausalLM on
a folder that it loads, and whose tensors it holds bit for bit; the MTP layer with one made of transformers' parts.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import torch
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as theirs

import delta
import fused
import model as demo
import mtp_reference
import text
import weights

sys.path.append(str(pathlib.Path(__file__).parents[1] / "reference"))
import transformers_model  # noqa: E402

TOLERANCE = {"delta rule": 1e-5, "gradients": 1e-4, "logits": 2e-3, "drafts": 2e-3}


def report(what, kind, difference):
    print(f"{what}: {difference:.2e}")
    if not difference <= TOLERANCE[kind]:
        raise SystemExit(f"{what} differs by {difference:.2e}, more than {TOLERANCE[kind]:.0e}")


def check_delta_rule(length):
    """Outputs and gradients of the rule with its preparation, batch 3, 4 heads."""
    torch.manual_seed(length)
    shape = (3, length, 4, 128)
    inputs = [torch.randn(shape) for _ in range(3)]
    inputs += [-torch.rand(shape[:3]) * 0.5, torch.rand(shape[:3])]
    inputs = [value.requires_grad_() for value in inputs]
    wanted, _ = theirs.torch_chunk_gated_delta_rule(*inputs, use_qk_l2norm_in_kernel=True)
    q, k, v = (value.transpose(1, 2) for value in inputs[:3])
    unit_q = q * torch.rsqrt(q.square().sum(-1, keepdim=True) + 1e-6) * 128**-0.5
    unit_k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + 1e-6)
    got = delta.chunked_delta_rule(unit_q, unit_k, v, inputs[3].transpose(1, 2), inputs[4].transpose(1, 2))
    got = got.transpose(1, 2)
    report(f"delta rule, {length} tokens", "delta rule", (wanted - got).abs().max().item())
    direction = torch.randn_like(wanted)
    theirs_grads = torch.autograd.grad((wanted * direction).sum(), inputs)
    for ours, other in zip(torch.autograd.grad((got * direction).sum(), inputs), theirs_grads):
        report("  gradient", "gradients", ((ours - other).abs().max() / (other.abs().max() + 1e-6)).item())


def check_fused():
    """Loss and gradients of the whole model, MTP included, with and without fused.cc."""
    torch.manual_seed(7)
    model = demo.DemoModel(demo.Config())
    ids = torch.randint(0, 700, (3, 70))

    def gradients():
        hidden = model(ids)
        loss = model.logits(hidden).logsumexp(-1).square().mean() + model.balance(False)
        loss = loss + model.logits(model.draft(hidden, ids)).logsumexp(-1).square().mean()
        return [loss] + list(torch.autograd.grad(loss, list(model.parameters())))

    plain = gradients()
    fused.use_fused()
    names = ["loss"] + [name for name, _ in model.named_parameters()]
    worst = max(zip(((a - b).abs().max() / (b.abs().max() + 1e-6) for a, b in zip(gradients(), plain)), names))
    fused.library = None
    report(f"fused passes, worst of all gradients ({worst[1]})", "gradients", worst[0].item())


@torch.no_grad()
def check_model(folder, prompts):
    """Logits and drafts of our module and of transformers on the same folder."""
    model = demo.DemoModel(demo.Config())
    weights.read_published(folder, model)
    reference = transformers_model.load(folder)
    drafter = mtp_reference.load(folder, reference.config)
    for ids in prompts:
        ids = torch.tensor([ids])
        hidden = model(ids)
        theirs_hidden = reference.model(input_ids=ids, use_cache=False).last_hidden_state
        wanted = reference.lm_head(theirs_hidden)
        report(f"logits, {ids.shape[1]} tokens (largest {wanted.abs().max():.1f})", "logits",
               (model.logits(hidden) - wanted).abs().max().item())
        wanted = reference.lm_head(drafter(theirs_hidden[:, :-1], reference.model.embed_tokens(ids[:, 1:])))
        report("  drafts", "drafts", (model.logits(model.draft(hidden, ids)) - wanted).abs().max().item())


def random_folder(folder):
    """A published folder of random weights, with the tokenizer of the demo model."""
    torch.manual_seed(3)
    model = demo.DemoModel(demo.Config())
    shutil.copy(text.FOLDER / "tokenizer.json", folder)
    tokens = {"<|endoftext|>": text.Conversations().pad}
    (folder / "config.json").write_text(json.dumps(weights.config_json(model.config, tokens)))
    weights.write_tensors(model, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, help="published folder; random weights without it")
    folder = parser.parse_args().folder
    for length in (1, 5, 64, 65, 150):
        check_delta_rule(length)
    check_fused()
    generator = torch.Generator().manual_seed(4)
    prompts = [torch.randint(0, 700, (n,), generator=generator).tolist() for n in (2, 33, 64, 200)]
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            folder = pathlib.Path(scratch)
            random_folder(folder)
        check_model(folder, prompts)


if __name__ == "__main__":
    main()
