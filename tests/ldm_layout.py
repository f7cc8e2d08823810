"""A tiny Stable Diffusion 1.x as one file, under the names of CompVis' original code."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MIDDLE = {
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def unet_name(name: str, layers: int, up_attention: list[bool]) -> str:
    for ours, theirs in (_ENDS | _MIDDLE).items():
        name = re.sub(rf"^{re.escape(ours)}\b", theirs, name)
    if found := re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", name):
        block, kind, layer = int(found[1]), found[2], int(found[3])
        place = f"input_blocks.{(layers + 1) * block + layer + 1}.{int(kind == 'attentions')}."
        name = place + name[found.end() :]
    elif found := re.match(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", name):
        block, kind, layer = int(found[1]), found[2], int(found[3])
        name = f"output_blocks.{(layers + 1) * block + layer}.{int(kind == 'attentions')}." + name[found.end() :]
    elif found := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.", name):
        name = f"input_blocks.{(layers + 1) * (int(found[1]) + 1)}.0.op." + name[found.end() :]
    elif found := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.", name):
        block = int(found[1])
        name = f"output_blocks.{(layers + 1) * block + layers}.{1 + up_attention[block]}." + name[found.end() :]
    if re.match(r"(input_blocks|output_blocks|middle_block)", name) and ".transformer_blocks." not in name:
        for ours, theirs in _RESNET.items():
            name = re.sub(rf"\.{ours}\.", f".{theirs}.", name)
    return f"model.diffusion_model.{name}"


def vae_name(name: str, levels: int) -> str:
    name = re.sub(r"\bdown_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"\bdown_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"\bup_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"\bup_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"\bmid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for ours, theirs in {
        "mid_block.attentions.0": "mid.attn_1",
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
        "conv_shortcut": "nin_shortcut",
        "conv_norm_out": "norm_out",
    }.items():
        name = name.replace(ours, theirs)
    return f"first_stage_model.{name}"


def save_single_file(pipeline: StableDiffusionPipeline, path: Path) -> Path:
    unet, vae = pipeline.unet, pipeline.vae
    up = [hasattr(block, "attentions") for block in unet.up_blocks]
    tensors = {unet_name(n, unet.config.layers_per_block, up): t for n, t in unet.state_dict().items()}
    for name, tensor in vae.state_dict().items():
        if ".attentions." in name and tensor.ndim == 2:
            tensor = tensor[..., None, None]  # linear layers here, 1 x 1 convolutions there
        tensors[vae_name(name, len(vae.config.block_out_channels))] = tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors[f"cond_stage_model.transformer.{name}"] = tensor
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(32)[None]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path
