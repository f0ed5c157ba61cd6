"""One picture of aMUSEd-512 by diffusers, with random weights: the peer that benches/full_size.rs compares with.

usage: diffusers_peer.py f32|bf16 eager|compiled STEPS
needs torch, diffusers and transformers; prints one line of JSON: seconds by stage, without loading, of a second picture.
"""

import json
import resource
import sys
import time

import torch
from diffusers import AmusedScheduler, UVit2DModel, VQModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

SIDE, TOKENS, CODES, MASK = 512, 32, 8192, 8255


def models(compiled):
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, projection_dim=768, num_hidden_layers=12, num_attention_heads=12)
    )
    transformer = UVit2DModel(downsample=True, upsample=True, sample_size=TOKENS)
    blocks = 5
    vq = VQModel(
        act_fn="silu",
        block_out_channels=[128, 256, 256, 512, 768],
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
        latent_channels=64,
        layers_per_block=2,
        norm_num_groups=32,
        num_vq_embeddings=CODES,
        sample_size=TOKENS,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    del vq.encoder
    if compiled:
        transformer, vq.decoder = torch.compile(transformer), torch.compile(vq.decoder)
    return text.eval(), transformer.eval(), vq.eval()


@torch.no_grad()
def picture(text, transformer, vq, steps):
    clock = [time.perf_counter()]
    texts = text(torch.randint(0, 49408, (2, 77)), output_hidden_states=True)
    clock.append(time.perf_counter())
    scheduler = AmusedScheduler(mask_token_id=MASK)
    scheduler.set_timesteps(steps)
    tokens = torch.full((1, TOKENS, TOKENS), MASK)
    size = torch.tensor([[SIDE, SIDE, 0, 0, 6]] * 2, dtype=texts.text_embeds.dtype)
    for timestep in scheduler.timesteps:
        logits = transformer(tokens.repeat(2, 1, 1), texts.hidden_states[-2], texts.text_embeds, size)
        without, given = logits.chunk(2)
        tokens = scheduler.step((without + 10 * (given - without)).float(), timestep, tokens).prev_sample
    clock.append(time.perf_counter())
    vq.decode(tokens, force_not_quantize=True, shape=(1, TOKENS, TOKENS, 64)).sample.clip(0, 1)
    clock.append(time.perf_counter())
    return [after - before for before, after in zip(clock, clock[1:])]


def main():
    precision, mode, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(2)
    torch.manual_seed(0)
    torch.set_default_dtype({"f32": torch.float32, "bf16": torch.bfloat16}[precision])
    parts = models(mode == "compiled")
    picture(*parts, steps)  # the first one compiles, and takes memory
    text, loop, decoder = picture(*parts, steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"text_s": text, "step_s": loop / steps, "decoder_s": decoder, "peak_rss_bytes": peak}))


main()
