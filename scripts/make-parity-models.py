#!/usr/bin/env python3
"""Small random models of each family, and what transformers makes of them.

Writes tests/parity/NAME/{config.json, model.safetensors, expected.json}: weights in bf16 (so that
both dtypes start from the same numbers), tokens, the logits that follow each of them in f32, and the
tokens that greedy generation goes on with. Needs torch and transformers; the tests do not.

    python3 scripts/make-parity-models.py [NAME ...]
"""

import json
import pathlib
import sys
import tempfile

import torch
import transformers as tf
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity"
COMMON = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, max_position_embeddings=128,
              rms_norm_eps=1e-6, eos_token_id=None, bos_token_id=None, pad_token_id=None,
              initializer_range=0.15)
GROUPED = dict(num_attention_heads=4, num_key_value_heads=2)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
LATENT = dict(num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=16, qk_nope_head_dim=8,
              qk_rope_head_dim=6, v_head_dim=10, num_hidden_layers=3, first_k_dense_replace=1,
              intermediate_size=56, moe_intermediate_size=20)

MODELS = {
    "mixtral": (tf.MixtralConfig, dict(GROUPED, intermediate_size=48, num_local_experts=6,
                                       num_experts_per_tok=2, sliding_window=None)),
    "mixtral-tied": (tf.MixtralConfig, dict(num_attention_heads=4, num_key_value_heads=4,
                                            intermediate_size=40, num_local_experts=4,
                                            num_experts_per_tok=1, sliding_window=None,
                                            tie_word_embeddings=True)),
    "qwen2-moe": (tf.Qwen2MoeConfig, dict(GROUPED, intermediate_size=64, moe_intermediate_size=24,
                                          shared_expert_intermediate_size=40, num_experts=6,
                                          num_experts_per_tok=3)),
    "qwen2-moe-normalised": (tf.Qwen2MoeConfig,
                             dict(num_attention_heads=2, num_key_value_heads=2,
                                  moe_intermediate_size=16, shared_expert_intermediate_size=24,
                                  num_experts=5, num_experts_per_tok=2, norm_topk_prob=True)),
    "qwen3-moe": (tf.Qwen3MoeConfig, dict(GROUPED, head_dim=12, moe_intermediate_size=24,
                                          num_experts=6, num_experts_per_tok=2,
                                          norm_topk_prob=True)),
    "qwen3-moe-yarn": (tf.Qwen3MoeConfig, dict(num_attention_heads=6, num_key_value_heads=2,
                                               head_dim=8, moe_intermediate_size=16, num_experts=4,
                                               num_experts_per_tok=2, attention_bias=True,
                                               rope_scaling=YARN)),
    "olmoe": (tf.OlmoeConfig, dict(GROUPED, intermediate_size=24, num_experts=6,
                                   num_experts_per_tok=3)),
    # All experts serve every token: with a choice, rounding decided between two at one position.
    "olmoe-clipped": (tf.OlmoeConfig, dict(num_attention_heads=4, num_key_value_heads=4,
                                           intermediate_size=20, num_experts=5,
                                           num_experts_per_tok=5, norm_topk_prob=True,
                                           clip_qkv=0.7)),
    "deepseek-v2": (tf.DeepseekV2Config,
                    dict(LATENT, q_lora_rank=24, n_routed_experts=8, num_experts_per_tok=3,
                         n_shared_experts=2, topk_method="group_limited_greedy", n_group=4,
                         topk_group=2, routed_scaling_factor=2.0,
                         rope_scaling=dict(YARN, mscale=0.707, mscale_all_dim=0.707))),
    "deepseek-v2-lite": (tf.DeepseekV2Config,
                         dict(LATENT, q_lora_rank=None, n_routed_experts=6, num_experts_per_tok=2,
                              n_shared_experts=2, topk_method="greedy")),
    "deepseek-v3": (tf.DeepseekV3Config,
                    dict(LATENT, q_lora_rank=24, n_routed_experts=12, num_experts_per_tok=4,
                         n_shared_experts=1, n_group=4, topk_group=2, routed_scaling_factor=2.5,
                         rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
    "deepseek-v3-fp8": (tf.DeepseekV3Config,
                        dict(LATENT, hidden_size=136, q_lora_rank=24, n_routed_experts=4,
                             num_experts_per_tok=2, n_shared_experts=1, n_group=1, topk_group=1,
                             num_hidden_layers=2, routed_scaling_factor=1.5)),
    "llama": (tf.LlamaConfig, dict(GROUPED, intermediate_size=72, rope_scaling=LLAMA3)),
    "llama-biased": (tf.LlamaConfig, dict(num_attention_heads=4, num_key_value_heads=1,
                                          intermediate_size=56, attention_bias=True,
                                          tie_word_embeddings=True,
                                          rope_scaling=dict(rope_type="linear", factor=2.0))),
    "mistral": (tf.MistralConfig, dict(GROUPED, head_dim=16, intermediate_size=64,
                                       sliding_window=None)),
    "qwen2": (tf.Qwen2Config, dict(GROUPED, intermediate_size=64)),
    "qwen3": (tf.Qwen3Config, dict(GROUPED, head_dim=20, intermediate_size=64)),
}


def quantise(directory):
    """The matrices of attention and experts to e4m3 with a factor for each block of 128 x 128, as
    DeepSeek-V3's are. What they then stand for goes into a directory of its own, which is returned.
    """
    path = directory / "model.safetensors"
    stored, meant = {}, load_file(path)
    for name, weight in load_file(path).items():
        stored[name] = weight
        if weight.ndim != 2 or ".layers." not in name or name.endswith("mlp.gate.weight"):
            continue
        blocks = [-(-size // 128) for size in weight.shape]
        factors = torch.empty(blocks)
        stored[name] = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
        meant[name] = torch.empty(weight.shape)
        for i in range(blocks[0]):
            for j in range(blocks[1]):
                block = (slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128))
                factors[i, j] = weight[block].float().abs().max() / 448
                stored[name][block] = (weight[block].float() / factors[i, j]).to(torch.float8_e4m3fn)
                meant[name][block] = stored[name][block].float() * factors[i, j]
        stored[name + "_scale_inv"] = factors
    save_file(stored, path, {"format": "pt"})
    plain = pathlib.Path(tempfile.mkdtemp())
    save_file(meant, plain / path.name, {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config))
    config["quantization_config"] = dict(activation_scheme="dynamic", fmt="e4m3",
                                         quant_method="fp8", weight_block_size=[128, 128])
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return plain


def write(name):
    kind, settings = MODELS[name]
    torch.manual_seed(sum(map(ord, name)))
    model = tf.AutoModelForCausalLM.from_config(kind(**{**COMMON, **settings}),
                                                attn_implementation="eager").eval()
    for key, weight in model.named_parameters():  # biases and norms that show
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 1.0 if "norm" in key else 0.0, 0.2)
    for key, bias in model.named_buffers():
        if key.endswith("e_score_correction_bias"):
            torch.nn.init.normal_(bias, 0.0, 0.2)
    model.to(torch.bfloat16)
    directory = ROOT / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)

    source = quantise(directory) if name.endswith("fp8") else directory
    model = tf.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32,
                                                    attn_implementation="eager").eval()
    tokens = torch.randint(0, COMMON["vocab_size"], (1, 40))
    with torch.no_grad():
        logits = model(tokens).logits[0]
        greedy = tokens
        for _ in range(8):
            greedy = torch.cat([greedy, model(greedy).logits[:, -1:].argmax(-1)], dim=1)
    positions = [0, 1, 17, 39]
    expected = dict(tokens=tokens[0].tolist(), positions=positions,
                    logits=[[round(x, 7) for x in logits[p].tolist()] for p in positions],
                    greedy=greedy[0, tokens.shape[1]:].tolist())
    (directory / "expected.json").write_text(json.dumps(expected) + "\n")
    print(name, sum(f.stat().st_size for f in directory.iterdir()) // 1024, "KiB")


for wanted in sys.argv[1:] or MODELS:
    write(wanted)
