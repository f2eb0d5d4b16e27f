"""A small GPT over bytes: plain torch, nothing of this library in it."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

VOCABULARY: Final = 256
"""One token per byte; the model needs no tokenizer."""

_SLOWEST_ROTATION: Final = 1000.0
"""Contexts are some hundred bytes, so the usual 10,000 would waste half of the frequencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """How large the model is.

    Attributes:
        context: The longest sequence it reads, in bytes.
        layers: Transformer blocks.
        heads: Attention heads per block; divides `width` into even parts.
        width: Numbers per position.
    """

    context: int
    layers: int
    heads: int
    width: int


class Rotation(nn.Module):
    """Rotary position embedding: turns each pair of numbers by an angle that grows with time.

    Attention then depends on distances alone, which this model learns from a million bytes
    where learned positions would need many more (Su et al. 2021, arXiv:2104.09864).
    """

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        speeds = _SLOWEST_ROTATION ** (-torch.arange(0, width, 2) / width)
        angles = torch.arange(context)[:, None] * speeds
        self.cos = nn.Buffer(angles.cos(), persistent=False)
        self.sin = nn.Buffer(angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(..., time, width)` to the same shape."""
        time = x.shape[-2]
        cos, sin = self.cos[:time], self.sin[:time]
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attention(nn.Module):
    """Causal self-attention: each position reads itself and what came before."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.rotate = Rotation(shape.context, shape.width // shape.heads)
        self.out = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(batch, time, width)` to the same shape."""
        batch, time, width = x.shape
        qkv: Tensor = self.qkv(x).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            self.rotate(query), self.rotate(key), value, is_causal=True
        )
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, time, width))
        return result


class Block(nn.Module):
    """One transformer layer, normalised before each of its two halves."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = Attention(shape)
        self.mlp_norm = nn.LayerNorm(shape.width)
        self.mlp = nn.Sequential(
            nn.Linear(shape.width, 4 * shape.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * shape.width, shape.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(batch, time, width)` to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        result: Tensor = x + self.mlp(self.mlp_norm(x))
        return result


class ByteGPT(nn.Module):
    """Predicts the next byte; the embedding is also the output layer."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.context = shape.context
        self.token = nn.Embedding(VOCABULARY, shape.width)
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.apply(_initialize)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps int64 bytes `(batch, time)` to logits `(batch, time, 256)`."""
        x = self.norm(self.blocks(self.token(tokens)))
        return functional.linear(x, self.token.weight)

    @torch.no_grad()
    def generate(self, prompt: str, *, length: int, seed: int, temperature: float = 0.7) -> str:
        """Continues `prompt` by `length` sampled bytes; leaves torch's own random state alone."""
        generator = Generator().manual_seed(seed)
        tokens = torch.tensor([list(prompt.encode())])
        device = self.token.weight.device
        for _ in range(length):
            logits = self(tokens[:, -self.context :].to(device))[:, -1].cpu()
            # Bounded, because a model that diverged has no finite logits; it writes noise instead.
            bounded = logits.nan_to_num().clamp(-1e3, 1e3)
            probabilities = functional.softmax(bounded / temperature, dim=-1)
            drawn = torch.multinomial(probabilities, 1, generator=generator)
            tokens = torch.cat((tokens, drawn), dim=1)
        return bytes(map(int, tokens[0])).decode(errors="replace")


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)  # small: the first guess is then uniform
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.7 * module.in_features**-0.5)
