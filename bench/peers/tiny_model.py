# mypy: ignore-errors
# (run by the environment that has these libraries; the project's own has none of them)
"""Make a model small enough to serve twice on two cores: random weights, a real tokenizer, LoRA adapters.

    build/real-vllm/vllm/bin/python bench/peers/tiny_model.py FOLDER

FOLDER/model is a Llama of 0.8 million parameters with a byte-pair tokenizer of 4,096 tokens, trained on the sources of
Python's standard library; FOLDER/lora-a and FOLDER/lora-b are adapters of rank 4. What it says is noise; what matters
here (prefix cache, queue, adapters, metrics, events) is the server's, and real.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 4096
HIDDEN, HEADS, KV_HEADS, LAYERS = 128, 4, 2, 2
RANK = 4
TRAINED_ON = 300
"""Files."""

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def make_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:TRAINED_ON]
    tokenizer.train([str(file) for file in files], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1])
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def make_model(folder: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=16384,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def make_adapter(folder: Path, seed: int) -> None:
    folder.mkdir()
    torch.manual_seed(seed)
    weights = {}
    for layer in range(LAYERS):
        for module, out in (("q_proj", HIDDEN), ("v_proj", HIDDEN * KV_HEADS // HEADS)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, HIDDEN, dtype=torch.bfloat16) * 0.02
            weights[f"{name}.lora_B.weight"] = torch.randn(out, RANK, dtype=torch.bfloat16) * 0.02
    save_file(weights, folder / "adapter_model.safetensors")
    configuration = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "base_model_name_or_path": "tiny",
    }
    (folder / "adapter_config.json").write_text(json.dumps(configuration))


def main() -> None:
    home = Path(sys.argv[1])
    make_tokenizer(home / "model")
    make_model(home / "model")
    for seed, name in enumerate(("lora-a", "lora-b")):
        make_adapter(home / name, seed)


if __name__ == "__main__":
    main()
