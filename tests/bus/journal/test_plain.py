"""Whatever users hand over becomes plain JSON data, with secrets masked."""

import dataclasses
import enum
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from bus import (
    ParametersLogged,
    decode,
    encode,
    mask_urls,
    masked_command,
    plain,
    plain_mapping,
)
from bus._plain import MASK, looks_secret
from tests.waiting import HANG


class Key(str, enum.Enum):  # noqa: UP042 - the older way is what people have
    LOSS = "loss"


class Hostile:
    """Fails at whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")


class HostileInt(int):
    def __int__(self) -> int:
        raise RuntimeError("no int")


class HostileFloat(float):
    def __float__(self) -> float:
        raise RuntimeError("no float")


class HostileText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no str")


class HostileMapping(Mapping[object, object]):
    def __getitem__(self, key: object) -> object:
        raise RuntimeError("no item")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("no iteration")

    def __len__(self) -> int:
        return 3


class EndlessMapping(Mapping[object, object]):
    def __getitem__(self, key: object) -> object:
        return key

    def __iter__(self) -> Iterator[object]:
        return iter(int, 1)

    def __len__(self) -> int:
        return 3


class UnreadableRepr:
    def __repr__(self) -> Any:
        return 5


class Settings(BaseModel):
    rate: float
    api_key: SecretStr
    password: str


@dataclasses.dataclass
class Options:
    rate: float
    where: Path
    hf_token: str
    mode: Key = Key.LOSS


HOSTILE: dict[str, Callable[[], object]] = {
    "object": Hostile,
    "int": lambda: HostileInt(3),
    "float": lambda: HostileFloat(0.5),
    "str": lambda: HostileText("text"),
    "mapping": HostileMapping,
    "endless": EndlessMapping,
    "repr": UnreadableRepr,
    "huge": lambda: 10**5000,
    "surrogate": lambda: "\ud800",
    "class": lambda: object,
    "function": lambda: len,
    "tensor": lambda: torch.zeros(2),
    "nan": lambda: math.nan,
    "iterator": lambda: iter([1]),
}


class TestPlain:
    """Whatever a user hands over becomes JSON data; nothing of it raises or takes for ever."""

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile(self, name):
        """It is described if nothing else can be done, at any place, and can be journalled."""
        value = HOSTILE[name]()
        for made in (value, [value], {"a": value}, {"a": [{"b": value}]}, (value, 1)):
            event = ParametersLogged(parameters={"value": plain(made)})
            assert type(decode(encode(event))) is ParametersLogged

    def test_hostile_keys(self):
        """A key that cannot be written is described."""
        made = plain_mapping({Hostile(): 1, HostileText("x"): 2, "\ud800": 3, None: 4, (1, 2): 5})

        assert sorted(made.values(), key=str) == [1, 2, 3, 4, 5]
        assert all(key.isprintable() for key in made)

    def test_what_contains_itself(self):
        """It is cut where it comes round again, however many ways lead there."""
        knot: dict[str, object] = {"a": 1}
        knot["self"] = [knot, knot, {"again": knot}]

        assert plain(knot) == {"a": 1, "self": ["...", "...", {"again": "..."}]}

    def test_what_is_shared(self):
        """A few small lists, each twice in the next, are 2**40 values: they are cut."""
        value: object = 1.0
        for _ in range(40):
            value = [value, value]

        started = time.monotonic()
        plain(value)

        assert time.monotonic() - started < HANG

    def test_structures(self):
        """Models, dataclasses, enums, paths, sets and numpy's numbers keep their structure."""
        settings_ = Settings(rate=0.1, api_key=SecretStr("abc"), password="xyz")  # noqa: S106 - a dummy
        options = Options(rate=0.2, where=Path("/a/b"), hf_token="abc")  # noqa: S106 - a dummy

        assert plain(settings_) == {"rate": 0.1, "api_key": MASK, "password": MASK}
        assert plain(options) == {"rate": 0.2, "where": "/a/b", "hf_token": MASK, "mode": "loss"}
        assert plain({"n": np.float32(0.5), "s": {3}, "t": (1, None)}) == {
            "n": 0.5,
            "s": [3],
            "t": [1, None],
        }
        assert plain("x" * 10_000) == "x" * 10_000
        assert len(str(plain(type("Long", (), {"__repr__": lambda _: "y" * 10_000})()))) == 500

    @settings(max_examples=60, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.integers().map("k{}".format), inner),
        )
    )
    def test_json_stays(self, value):
        """What is JSON already comes back equal."""
        assert plain(value) == value


SECRET = [
    "api_key", "apiKey", "WANDB_API_KEY", "hfToken", "password", "db.password", "HF_TOKEN",
    "aws_secret_access_key", "token", "auth", "Authorization", "smtp/passwd", "OPENAI_APIKEY",
    "session-token", "private_key", "pwd", "api-key", "--hf-token", "access key", "Webhook.URL",
]  # fmt: skip
OPEN = [
    "tokenizer", "max_tokens", "token_count", "key", "keys", "author", "learning_rate", "monkey",
    "passes", "secretary", "tokens_per_second", "authored_by",
]  # fmt: skip


class TestSecrets:
    """Credentials are masked wherever people put them."""

    @pytest.mark.parametrize("key", SECRET)
    def test_secret(self, key):
        """Names that usually hold one."""
        assert looks_secret(key)
        assert plain_mapping({key: "abc", "more": {key: ["abc"]}}) == {
            key: MASK,
            "more": {key: MASK},
        }

    @pytest.mark.parametrize("key", OPEN)
    def test_open(self, key):
        """Names that look alike and do not."""
        assert not looks_secret(key)
        assert plain_mapping({key: "abc"}) == {key: "abc"}

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("postgres://me:pw@host:5432/db", "postgres://me:***@host:5432/db"),
            ("redis://:pw@host", "redis://:***@host"),
            ("a https://u:p@h/x, b ftp://u:q@h", "a https://u:***@h/x, b ftp://u:***@h"),
            ("http://u:p@ss@host/x", "http://u:***@host/x"),
            ("http://host:80/path", "http://host:80/path"),
            ("s3://bucket/key", "s3://bucket/key"),
            ("no url: at@all", "no url: at@all"),
        ],
    )
    def test_urls(self, text, masked):
        """Passwords in URLs, and nothing else of them."""
        assert mask_urls(text) == masked
        assert plain({"url": [text]}) == {"url": [masked]}

    @pytest.mark.parametrize("part", ["a", "://", "a://", "://a:", "a://a:a", "x:@"])
    def test_long_texts(self, part):
        """A long text costs time in proportion to its length."""
        started = time.monotonic()
        mask_urls(part * (400_000 // len(part)) + " ://")

        assert time.monotonic() - started < HANG

    def test_commands(self):
        """Values of options, beside or behind them, and assignments."""
        command = [
            "train.py", "--lr", "0.1", "--api-key", "abc", "--hf_token=def", "--verbose",
            "WANDB_API_KEY=ghi", "--db", "postgres://u:p@h/d", "--password", "--next", "x",
            "\ud800",
        ]  # fmt: skip

        assert masked_command(command) == [
            "train.py", "--lr", "0.1", "--api-key", MASK, f"--hf_token={MASK}", "--verbose",
            f"WANDB_API_KEY={MASK}", "--db", "postgres://u:***@h/d", "--password", "--next", "x",
            "\ufffd",
        ]  # fmt: skip
