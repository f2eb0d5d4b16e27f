"""Fine-tunes a small GPT-2 of Transformers on the text of Python's help, and loads it again.

The model is made from a configuration, so nothing is downloaded; one from a hub is trained the same
way, with its own tokenizer instead of bytes. Transformers is needed for the model: `pip install
transformers`.

    python examples/finetune.py
"""

import argparse
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from runtime import Trainer, TrainingArguments

CONTEXT = 64
EVALUATED = 50
"""Windows held back to evaluate on."""


def windows() -> list[dict[str, Tensor]]:
    """Windows of the text, a byte a token; the model itself shifts the labels by one."""
    text = "\n\n".join(topics[name] for name in sorted(topics)).encode()
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    return [{"input_ids": part, "labels": part} for part in tokens.unfold(0, CONTEXT, CONTEXT)]


def pretrained(folder: Path) -> GPT2LMHeadModel:
    """A model as it comes from a hub: a folder with weights and a configuration."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=2, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return GPT2LMHeadModel.from_pretrained(folder)


def written(model: GPT2LMHeadModel, prompt: str) -> str:
    """What the model writes behind a prompt."""
    given = torch.tensor([list(prompt.encode())], device=model.device)
    torch.manual_seed(0)
    found = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_length=CONTEXT,
        do_sample=True,
        temperature=0.7,
        pad_token_id=0,
    )
    return bytes(found[0].tolist()).decode(errors="replace")


def main() -> None:
    """Train, and tell what came of it."""
    parser = argparse.ArgumentParser(description="Fine-tune a small GPT-2.")
    parser.add_argument("--folder", type=Path, default=Path("finetuned"))
    parser.add_argument("--steps", type=int, default=400)
    chosen = parser.parse_args()
    folder: Path = chosen.folder
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=chosen.steps,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        logging_steps=10,
        eval_strategy="steps",
        eval_steps=0.25,
        eval_on_start=True,
        save_strategy="best",
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        include_num_input_tokens_seen=True,
    )
    data = windows()
    trainer = Trainer(
        pretrained(folder / "pretrained"),
        args,
        train_dataset=data[EVALUATED:],
        eval_dataset=data[:EVALUATED],
    )
    with trainer:
        trainer.train()
        trainer.save_model()

    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    again = GPT2LMHeadModel.from_pretrained(folder)
    print(f"tokens    {trainer.state.num_input_tokens_seen:,}")
    print(f"loss      {losses[0]:.3f} -> {min(losses):.3f} nats per byte")
    print(f"model     {folder}, {again.num_parameters():,} parameters")
    print(f"it writes {written(again, 'The value ')!r}")


if __name__ == "__main__":
    main()
