"""Finds what is wrong with training arguments that are each of the right type.

Reads only. The trainer looks again before it begins, because people change arguments after making
them.
"""

import math
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch

from runtime._argument_data import DataFields
from runtime._choices import HubStrategy, IntervalStrategy, OptimizerNames, SaveStrategy
from runtime._optimizers import parse_options
from runtime._schedules import check_options, follows_metric
from runtime._sharding_options import sharding_options

_LARGEST: Final = sys.float_info.max


class _Range(NamedTuple):
    low: float = -_LARGEST
    high: float = _LARGEST

    def words(self) -> str:
        """What a value must be."""
        if self.low == -_LARGEST:
            return "a finite number"
        if self.high == _LARGEST:
            return f"{self.low:g} or more, and finite"
        return f"{self.low:g} to {self.high:g}"


_BELOW_ONE: Final = math.nextafter(1, 0)

_RANGES: Final[Mapping[str, _Range]] = {
    "per_device_train_batch_size": _Range(1),
    "per_device_eval_batch_size": _Range(1),
    "gradient_accumulation_steps": _Range(1),
    "num_train_epochs": _Range(0),
    "learning_rate": _Range(0),
    "warmup_steps": _Range(0),
    "weight_decay": _Range(0),
    "adam_beta1": _Range(0, _BELOW_ONE),
    "adam_beta2": _Range(0, _BELOW_ONE),
    "adam_epsilon": _Range(0),
    "label_smoothing_factor": _Range(0, 1),
    "max_grad_norm": _Range(high=math.inf),
    "logging_steps": _Range(),
    "eval_steps": _Range(),
    "save_steps": _Range(),
    "eval_delay": _Range(),
    "torch_empty_cache_steps": _Range(1),
    "eval_accumulation_steps": _Range(1),
    "seed": _Range(0, 2**32 - 1),
    "data_seed": _Range(0, 2**63 - 1),
    "grace_seconds": _Range(0.1),
    "watchdog_seconds": _Range(0),
    "dataloader_num_workers": _Range(0),
    "dataloader_prefetch_factor": _Range(1),
    "ddp_bucket_cap_mb": _Range(1),
    "ddp_timeout": _Range(1),
}


def check(args: DataFields, device: torch.device) -> None:
    """Refuse values that are out of range or contradict each other, or that the device cannot do.

    Raises:
        ValueError: The message names the arguments, their values, and what to do.
    """
    _check_ranges(args)
    _check_words(args)
    _check_intervals(args)
    _check_schedule(args)
    _check_precision(args, device)
    _check_loader(args)
    _check_sharding(args)
    parse_options(args.optim, args.optim_args)


def _check_ranges(args: DataFields) -> None:
    for name, allowed in _RANGES.items():
        value = getattr(args, name)
        if value is not None and not allowed.low <= value <= allowed.high:
            raise ValueError(f"{name}={value} must be {_words(name, allowed)}")


def _words(name: str, allowed: _Range) -> str:
    if name == "max_grad_norm":
        return "a number; 0 or less leaves gradients as they are"
    if allowed.high == _BELOW_ONE:
        return "0 or more and below 1"
    return allowed.words()


def _check_words(args: DataFields) -> None:
    if args.include_num_input_tokens_seen not in ("all", "non_padding", "no"):
        raise ValueError(
            f"include_num_input_tokens_seen={args.include_num_input_tokens_seen!r} must be "
            '"all", "non_padding", "no", or a bool'
        )
    for word in args.include_for_metrics:
        if word not in ("inputs", "loss"):
            raise ValueError(
                f'include_for_metrics={args.include_for_metrics} may hold "inputs" and "loss", '
                f"not {word!r}"
            )
    for name in ("lr_scheduler_kwargs", "activation_checkpointing_kwargs"):
        if isinstance(getattr(args, name), str):
            raise ValueError(  # noqa: TRY004 - a value like any other wrong one
                f"{name}={getattr(args, name)!r} must be a dict, or a JSON object such as "
                "'{\"num_cycles\": 2}'"
            )


def _check_intervals(args: DataFields) -> None:
    if args.logging_strategy == IntervalStrategy.STEPS and args.logging_steps == 0:
        raise ValueError(
            'logging_steps=0 with logging_strategy="steps": set logging_steps above 0, or '
            'logging_strategy="no"'
        )
    if not args.load_best_model_at_end or args.save_strategy == SaveStrategy.BEST:
        return
    if args.eval_strategy != args.save_strategy:  # str enums of two classes compare by word
        raise ValueError(
            "load_best_model_at_end=True needs a checkpoint of each evaluated model, but "
            f'eval_strategy="{_word(args.eval_strategy)}" and '
            f'save_strategy="{_word(args.save_strategy)}": make them equal, or set '
            'save_strategy="best"'
        )
    if args.eval_strategy == IntervalStrategy.STEPS:
        _check_multiple(args.save_steps, args.eval_steps or 0)


def _check_multiple(save: float, evaluate: float) -> None:
    """Check that each checkpoint falls on an evaluation."""
    if save % evaluate == 0:
        return
    if (save < 1) != (evaluate < 1):
        raise ValueError(
            f"load_best_model_at_end=True: save_steps={save} and eval_steps={evaluate} mix a share "
            "of all steps with a number of steps: give both in one way"
        )
    scale = 1_000_000 if save < 1 else 1  # 0.3 is no multiple of 0.1, but 300,000 is of 100,000
    if (save * scale) % (evaluate * scale) != 0:
        raise ValueError(
            f"load_best_model_at_end=True: save_steps={save} must be a multiple of "
            f'eval_steps={evaluate}; or set save_strategy="best"'
        )


def _check_schedule(args: DataFields) -> None:
    kwargs = args.lr_scheduler_kwargs
    check_options(args.lr_scheduler_type, kwargs if isinstance(kwargs, dict) else None)
    if follows_metric(args.lr_scheduler_type) and args.eval_strategy == IntervalStrategy.NO:
        raise ValueError(
            f'lr_scheduler_type="{_word(args.lr_scheduler_type)}" follows a metric, but '
            'eval_strategy="no" never measures one: set eval_strategy to "steps" or "epoch"'
        )


def _check_precision(args: DataFields, device: torch.device) -> None:
    if args.fp16 and args.bf16:
        raise ValueError("fp16=True and bf16=True: training has one precision, so leave one out")
    if args.fp16_full_eval and args.bf16_full_eval:
        raise ValueError(
            "fp16_full_eval=True and bf16_full_eval=True: evaluation has one precision, so leave "
            "one out"
        )
    if (args.bf16 or args.bf16_full_eval) and not args.use_cpu and not _has_bf16(device):
        name = "bf16" if args.bf16 else "bf16_full_eval"
        raise ValueError(
            f"{name}=True, but {_named(device)} has no bfloat16: set use_cpu=True to train on the "
            "CPU, or leave it out"
        )
    if args.fp16 and device.type == "cpu":
        raise ValueError(
            "fp16=True needs a GPU, but training runs on the CPU: use bf16=True with use_cpu=True"
        )
    if args.tf32 and not _has_tf32(device):
        raise ValueError(
            f"tf32=True needs an NVIDIA GPU of the Ampere generation or later, which "
            f"{_named(device)} is not: leave it out"
        )


def _check_loader(args: DataFields) -> None:
    if args.dataloader_num_workers == 0:
        for name, unset in (
            ("dataloader_prefetch_factor", None),
            ("dataloader_multiprocessing_context", None),
            ("dataloader_persistent_workers", False),
        ):
            if getattr(args, name) != unset:
                raise ValueError(
                    f"{name}={getattr(args, name)} is about worker processes, and "
                    "dataloader_num_workers=0: set it to 1 or more"
                )


def _check_sharding(args: DataFields) -> None:
    if sharding_options(args.fsdp, args.fsdp_config) is None:
        return
    for name in ("bf16_full_eval", "fp16_full_eval"):
        if getattr(args, name):
            raise ValueError(
                f"{name}=True changes the type of a model, which one that is sharded keeps; set "
                f"{name.removesuffix('_full_eval')}=True, which evaluates in that type too"
            )
    if args.optim == OptimizerNames.ADAFACTOR:
        raise ValueError(
            'optim="adafactor" sums whole rows and columns, of which fsdp leaves each process a '
            'part; use optim="adamw_torch"'
        )
    if args.save_on_each_node:
        raise ValueError(
            "save_on_each_node=True with fsdp: a checkpoint is one folder, into which every "
            "process writes its shard; leave it out, and put output_dir on a disk that all "
            "machines share"
        )
    if args.push_to_hub and args.hub_strategy != HubStrategy.END:
        raise ValueError(
            f'hub_strategy="{_word(args.hub_strategy)}" pushes checkpoints, which hold shards with '
            'fsdp; set hub_strategy="end", which pushes the whole model'
        )


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type != "cpu"


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def _named(device: torch.device) -> str:
    return "the CPU" if device.type == "cpu" else f"the device {device}"


def _word(choice: str) -> str:
    return str.__str__(choice)
