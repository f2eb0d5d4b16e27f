"""Reads `fsdp` and `fsdp_config`: how a model is sharded, in upstream's words.

Upstream's keys mean here what they mean there with `version: 2`. Those of FSDP1 alone are refused
with what to write, as far as they ask for anything.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, field_validator

Fsdp: TypeAlias = bool | str | list[str] | None
"""True, or upstream's older words such as "full_shard auto_wrap"; None and False for no."""

_WORDS: Final[Mapping[str, Mapping[str, bool]]] = {
    "full_shard": {"reshard_after_forward": True},
    "shard_grad_op": {"reshard_after_forward": False},
    "offload": {"cpu_offload": True},
    "auto_wrap": {},  # blocks are always found
}

_HYBRID: Final = "is not served: all ranks share one copy of the model; write fsdp=True"
_OTHER_WORDS: Final[Mapping[str, str]] = {
    "hybrid_shard": _HYBRID,
    "hybrid_shard_zero2": _HYBRID,
    "no_shard": "is what a launch of several processes does without fsdp; leave fsdp out",
}

_FSDP1: Final = "is of FSDP1; leave it out"
_XLA: Final = "is not served: there is no XLA here; leave it out"
_GONE: Final[Mapping[str, str]] = {
    "backward_prefetch": f"{_FSDP1}, the next block is always fetched early",
    "forward_prefetch": f"{_FSDP1}, the next block is always fetched early",
    "limit_all_gathers": f"{_FSDP1}, memory is bounded without it",
    "sync_module_states": f"{_FSDP1}, the first rank's weights are everybody's",
    "use_orig_params": f"{_FSDP1}, parameters are always the model's own",
    "xla": _XLA,
    "xla_fsdp_grad_ckpt": _XLA,
    "xla_fsdp_settings": _XLA,
    "xla_fsdp_v2": _XLA,
}
_NOT_ASKED: Final = (None, False, "false", "False", "", "NO_PREFETCH", "no_prefetch")
"""Values with which a key of FSDP1 asks for nothing."""


class ShardingOptions(BaseModel):
    """How a model is sharded.

    Attributes:
        version: Of FSDP.
        transformer_layer_cls_to_wrap: Names of the classes of blocks that are gathered one at a
            time; by default what the model names in `_no_split_modules`.
        min_num_params: Instead of by class: blocks are modules with at least so many parameters
            that are in no smaller block; 0 for by class.
        auto_wrap_policy: Upstream's word for which of the two; it follows from them.
        reshard_after_forward: Whether a block's parameters are let go after the forward pass and
            gathered again for the backward pass.
        cpu_offload: Whether parameters, gradients and optimizer live on the host.
        activation_checkpointing: Whether blocks compute their activations again.
        cpu_ram_efficient_loading: Upstream's flag. A model on the meta device is fine on every
            rank but the first, with or without it.
        state_dict_type: What checkpoints hold; always the shards.
        sync_each_batch: Whether each micro-batch's gradients are summed over ranks at once, which
            keeps shards instead of whole gradients and costs more traffic.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

    version: Literal[2] = 2
    transformer_layer_cls_to_wrap: tuple[str, ...] = ()
    min_num_params: NonNegativeInt = 0
    auto_wrap_policy: Literal["TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP"] | None = None
    reshard_after_forward: bool = True
    cpu_offload: bool = False
    activation_checkpointing: bool = False
    cpu_ram_efficient_loading: bool = False
    state_dict_type: Literal["SHARDED_STATE_DICT"] = "SHARDED_STATE_DICT"
    sync_each_batch: bool = False

    @field_validator("transformer_layer_cls_to_wrap", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        """One name, or several by commas, as upstream takes them."""
        if isinstance(given, str):
            return tuple(name.strip() for name in given.split(",") if name.strip())
        return () if given is None else given


def sharding_options(
    fsdp: Fsdp, config: Mapping[str, object] | str | None
) -> ShardingOptions | None:
    """How to shard, or None for not at all.

    Args:
        fsdp: As given to `TrainingArguments`.
        config: Likewise; a path is read. Keys may begin with "fsdp_". What it says goes before
            the words of `fsdp`.

    Raises:
        ValueError: A word or key is unknown, of FSDP1, or has a value that it cannot have.
    """
    if not fsdp:
        return None
    named = {key.removeprefix("fsdp_"): value for key, value in _mapping(config).items()}
    faults = [
        f"fsdp_config[{key!r}] {why}"
        for key, why in _GONE.items()
        if named.pop(key, None) not in _NOT_ASKED
    ]
    if named.get("version") == 1 or named.get("version") == "1":
        faults.append('fsdp_config["version"] is 1, and FSDP1 is not served; leave it out')
    if named.get("state_dict_type") == "FULL_STATE_DICT":
        faults.append(
            'fsdp_config["state_dict_type"] is FULL_STATE_DICT, and checkpoints hold shards; leave '
            "it out, and let save_model() write the whole model"
        )
    words: dict[str, bool] = {}
    for word in _words(fsdp):
        if word in _WORDS:
            words |= _WORDS[word]
        else:
            known = ", ".join(map(repr, _WORDS))
            faults.append(f"fsdp has {word!r}, which {_OTHER_WORDS.get(word) or f'is no {known}'}")
    if faults:
        raise ValueError("; ".join(faults))
    return _validated({**words, **named})


def _words(fsdp: str | list[str] | bool) -> list[str]:
    if isinstance(fsdp, bool) or fsdp in ("true", "True"):
        return []
    return fsdp.split() if isinstance(fsdp, str) else [str(word) for word in fsdp]


def _mapping(config: Mapping[str, object] | str | None) -> Mapping[str, object]:
    """The settings, of a file if it is the name of one.

    Raises:
        ValueError: There is no such file, or it holds no JSON object.
    """
    if config is None or isinstance(config, Mapping):
        return config or {}
    try:
        found: object = json.loads(Path(config).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"fsdp_config={config!r} cannot be read as a file of JSON ({error}); pass its path, or "
            "a dictionary"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"fsdp_config={config!r} holds no JSON object; write one into it")  # noqa: TRY004 - a file's content
    return cast("dict[str, object]", found)


def _validated(settings: Mapping[str, object]) -> ShardingOptions:
    try:
        return ShardingOptions.model_validate(settings)
    except ValidationError as error:
        known = ", ".join(ShardingOptions.model_fields)
        told = [
            f"fsdp_config[{str(fault['loc'][0])!r}] is no setting; there are {known}"
            if fault["type"] == "extra_forbidden"
            else f"fsdp_config[{str(fault['loc'][0])!r}]: {fault['msg']}"
            for fault in error.errors(include_url=False)
        ]
        raise ValueError("; ".join(told)) from error
