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

import torch
import transformers as tf

ROOT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity"
COMMON = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, max_position_embeddings=128,
              rms_norm_eps=1e-6, eos_token_id=None, bos_token_id=None, pad_token_id=None,
              initializer_range=0.15)
GROUPED = dict(num_attention_heads=4, num_key_value_heads=2)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)

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


def write(name):
    kind, settings = MODELS[name]
    torch.manual_seed(sum(map(ord, name)))
    model = tf.AutoModelForCausalLM.from_config(kind(**{**COMMON, **settings}),
                                                attn_implementation="eager").eval()
    for key, weight in model.named_parameters():  # biases and norms that show
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 1.0 if "norm" in key else 0.0, 0.2)
    model.to(torch.bfloat16)
    directory = ROOT / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)

    model = tf.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32,
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
