"""What became of argument names that are none any more, or that another trainer has.

Upstream has dropped some without a word; others belong to what this trainer does not do. Both are
told with what to write instead.
"""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Final

_RENAMED: Final[Mapping[str, str]] = {
    "adafactor": 'is optim="adafactor" now',
    "evaluation_strategy": "is eval_strategy now",
    "fp16_backend": "is gone: fp16=True or bf16=True use torch's autocast",
    "fp16_opt_level": "is gone: fp16=True or bf16=True use torch's autocast",
    "group_by_length": 'is train_sampling_strategy="group_by_length" now',
    "half_precision_backend": "is gone: fp16=True or bf16=True use torch's autocast",
    "include_inputs_for_metrics": 'is include_for_metrics=["inputs"] now',
    "include_tokens_per_second": 'is include_num_input_tokens_seen="all" now',
    "jit_mode_eval": "is gone: use torch_compile=True",
    "logging_dir": "is gone: the environment variable TENSORBOARD_LOGGING_DIR says where",
    "no_cuda": "is use_cpu now",
    "overwrite_output_dir": "is gone: train() starts anew unless it is told to resume",
    "past_index": "is gone: have the model keep what it needs between batches",
    "per_gpu_eval_batch_size": "is per_device_eval_batch_size now",
    "per_gpu_train_batch_size": "is per_device_train_batch_size now",
    "push_to_hub_model_id": "is hub_model_id now",
    "push_to_hub_organization": 'is part of hub_model_id now, as in "organization/model"',
    "push_to_hub_token": "is hub_token now",
    "save_safetensors": "is gone: weights are always safetensors",
    "torchdynamo": "is torch_compile_backend now",
    "use_legacy_prediction_loop": "is gone: there is one prediction loop",
    "use_mps_device": "is gone: MPS is used where there is one, unless use_cpu=True",
    "warmup_ratio": "is warmup_steps now, where a value below 1 is a share of all steps",
    "xpu_backend": "is ddp_backend now",
}

_SHARDING: Final = "is not served: fsdp=True shards a model"
_TPU: Final = "is not served: there is no XLA here"
_TRACKIO: Final = "is not served: the sink trackio writes here, or to what TRACKIO_SERVER_URL names"

_NOT_SERVED: Final[Mapping[str, str]] = {
    "accelerator_config": "is not served: there is no accelerate here; dataloader_* set the loader",
    "debug": "is not served: use torch.autograd.set_detect_anomaly(True)",
    "deepspeed": _SHARDING,
    "enable_jit_checkpoint": "is not needed: SIGTERM has a checkpoint saved, if there is "
    "time; grace_seconds says how much",
    "eval_use_gather_object": "is not served: predictions are tensors, or nests of them",
    "liger_kernel_config": "is not served: apply the kernels to the model before training",
    "local_rank": "is not served: launchers set the environment variable LOCAL_RANK",
    "mp_parameters": _SHARDING,
    "neftune_noise_alpha": "is not served: add the noise in a forward hook of the embedding",
    "optim_target_modules": "is not served: hand over optimizers=(optimizer, None) instead",
    "parallelism_config": _SHARDING,
    "ray_scope": "is not served: there is no hyper-parameter search here",
    "skip_memory_metrics": "is not served: memory is reported by events of its own",
    "tpu_metrics_debug": _TPU,
    "tpu_num_cores": _TPU,
    "trackio_bucket_id": _TRACKIO,
    "trackio_space_id": _TRACKIO,
    "trackio_static_space_id": _TRACKIO,
    "use_liger_kernel": "is not served: apply the kernels to the model before training",
}


def refuse_unknown(cls: type, names: Iterable[str]) -> None:
    """Refuse keyword arguments that a class does not take.

    Raises:
        TypeError: There is such a name; the message says what to write instead.
    """
    init = cls.__init__  # type: ignore[misc]  # of this very class, not of a subclass
    parameters = inspect.signature(init).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    faults = [f"{name} {_instead(name, parameters)}" for name in names if name not in parameters]
    if faults:
        raise TypeError(f"{cls.__name__}: {'; '.join(faults)}")


def _instead(name: str, known: Iterable[str]) -> str:
    told = _RENAMED.get(name) or _NOT_SERVED.get(name)
    if told:
        return told
    near = difflib.get_close_matches(name, [each for each in known if each != "self"], n=1)
    return f"is no argument; is it {near[0]}?" if near else "is no argument"
