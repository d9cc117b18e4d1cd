"""The MTP layer made of transformers' own parts: the reference of drafts.

transformers drops `mtp.*` of these checkpoints, so the layer is put together here: its decoder layer and norms around
the projection of [embedding, hidden state].
"""

import copy
import json
import pathlib

import safetensors.torch
import torch
from torch import nn
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as theirs


class MtpReference(nn.Module):
    def __init__(self, config):
        super().__init__()
        config = copy.deepcopy(config)
        config.layer_types = ["full_attention"]
        size, eps = config.hidden_size, config.rms_norm_eps
        self.pre_fc_norm_embedding = theirs.Qwen3_5MoeRMSNorm(size, eps)
        self.pre_fc_norm_hidden = theirs.Qwen3_5MoeRMSNorm(size, eps)
        self.fc = nn.Linear(2 * size, size, bias=False)
        self.layers = nn.ModuleList([theirs.Qwen3_5MoeDecoderLayer(config, 0)])
        self.norm = theirs.Qwen3_5MoeRMSNorm(size, eps)
        self.rotary = theirs.Qwen3_5MoeTextRotaryEmbedding(config)

    def forward(self, hidden, following):
        """hidden [1, t, h] after the final norm, following [1, t, h]: embeddings of the next tokens -> [1, t, h]."""
        length = hidden.shape[1]
        x = self.fc(torch.cat([self.pre_fc_norm_embedding(following), self.pre_fc_norm_hidden(hidden)], dim=-1))
        positions = torch.arange(length)[None]
        above = torch.full((length, length), float("-inf")).triu(1)[None, None]
        x = self.layers[0](x, position_embeddings=self.rotary(x, positions), attention_mask=above,
                           position_ids=positions)
        return self.norm(x[0] if isinstance(x, tuple) else x)


def load(folder, config):
    """The layer with the `mtp.*` tensors of a published folder, in f32."""
    folder = pathlib.Path(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    stored = {}
    for shard in sorted(set(index.values())):
        stored |= safetensors.torch.load_file(folder / shard)
    stored = {name[len("mtp."):]: t.float() for name, t in stored.items() if name.startswith("mtp.")}
    experts = "layers.0.mlp.experts."
    parts = {name[len(experts):]: stored.pop(name) for name in list(stored) if name.startswith(experts)}
    count = 1 + max(int(name.split(".")[0]) for name in parts)
    both = [torch.cat([parts[f"{e}.gate_proj.weight"], parts[f"{e}.up_proj.weight"]]) for e in range(count)]
    stored[experts + "gate_up_proj"] = torch.stack(both)
    stored[experts + "down_proj"] = torch.stack([parts[f"{e}.down_proj.weight"] for e in range(count)])
    module = MtpReference(config)
    module.load_state_dict(stored)
    return module.eval()
