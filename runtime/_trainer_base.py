"""What the parts of a trainer share: its attributes, and how a hook is called and announced."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from bus import Event
from runtime._arguments import TrainingArguments
from runtime._callback_handler import CallbackHandler
from runtime._data_parallel import DataParallel
from runtime._label_smoothing import LabelSmoother
from runtime._losses import LossSum
from runtime._precision import Precision
from runtime._process_group import ProcessGroup
from runtime._run import Run
from runtime._schedules import Scheduler
from runtime._sharding import ShardedModel
from runtime._state import TrainerControl, TrainerState

log = logging.getLogger("runtime")

Batch: TypeAlias = Any
"""A mapping of names to tensors, a tuple of them, or one tensor: what the data's collator makes."""

ComputeMetrics: TypeAlias = Callable[..., dict[str, float]]
ComputeLoss: TypeAlias = Callable[..., torch.Tensor]
PreprocessLogits: TypeAlias = Callable[[Any, Any], Any]


class TrainerBase:
    """The attributes of a trainer; users read them, and their callbacks.

    Attributes:
        model: The model as it was given, or as `model_init` made it.
        model_wrapped: What is called in the loop; another object when the model is compiled, or
            several processes train it.
        args: The settings.
        device: Where the model is.
        run: Its events, journal and decisions.
        state: How far training has come; what a checkpoint keeps.
        control: The flags that callbacks set.
        optimizer: Made by `create_optimizer` when training begins, or given.
        lr_scheduler: Made by `create_scheduler` when training begins, or given.
        data_parallel: What exchanges the gradients of several processes; None in one.
        is_in_train: Whether `train` is under way.
    """

    model: torch.nn.Module
    model_wrapped: torch.nn.Module
    args: TrainingArguments
    device: torch.device
    state: TrainerState
    control: TrainerControl
    callback_handler: CallbackHandler
    optimizer: torch.optim.Optimizer | None
    lr_scheduler: Scheduler | None
    is_in_train: bool
    processing_class: Any
    train_dataset: Any
    eval_dataset: Any
    data_collator: Callable[[list[Any]], Any] | None
    compute_loss_func: ComputeLoss | None
    compute_metrics: ComputeMetrics | None
    preprocess_logits_for_metrics: PreprocessLogits | None
    label_names: list[str]
    label_smoother: LabelSmoother | None
    can_return_loss: bool
    model_accepts_loss_kwargs: bool
    loss_is_scaled_for_ga: bool | None = None
    current_gradient_accumulation_steps: int
    _losses: LossSum
    _precision: Precision
    _train_batch_size: int
    _group: ProcessGroup
    _model_evaluated: torch.nn.Module
    data_parallel: DataParallel | ShardedModel | None = None
    _sharded: ShardedModel | None = None

    @property
    def run(self) -> Run:
        """Its events, journal and decisions; the trainer closes it."""
        raise AttributeError("only a Trainer has a run")

    @property
    def loss_shifts_labels(self) -> bool:
        """Whether position i predicts label i + 1, as causal language models of Transformers do."""
        config = getattr(self.model, "config", None)
        causal = getattr(self.model, "loss_type", None) == "ForCausalLM"
        return causal and not getattr(config, "is_encoder_decoder", False)

    @property
    def _weighs_ranks(self) -> bool:
        """Whether a loss is scaled by the labels of all processes, where several train."""
        return self.args.average_tokens_across_devices and not self._group.alone

    @property
    def output_dir(self) -> Path:
        """Where checkpoints go."""
        return Path(self.args.output_dir or "trainer_output").expanduser()

    def is_world_process_zero(self) -> bool:
        """Whether this is the first process of all."""
        return self._group.world.rank == 0

    def is_local_process_zero(self) -> bool:
        """Whether this is the first process of its machine."""
        return self._group.world.local_rank == 0

    def _gather(self, call: str) -> None:
        """Wait for all ranks at the beginning of what they do together, outside of training.

        Raises:
            RanksError: One of them does not come.
        """
        if not self.is_in_train:
            self.run.gather(f"Trainer.{call}", self.args.ddp_timeout)

    def call_hook(self, name: str, **more: object) -> None:
        """Call a hook of all callbacks and keep the control they return."""
        hook = getattr(self.callback_handler, name)
        self.control = hook(self.args, self.state, self.control, **more)

    def announce(self, kind: type[Event], fields: Mapping[str, object] | None = None) -> None:
        """Publish an event if somebody wants it; only then it is built."""
        if self.run.wants(kind):
            values: dict[str, Any] = {"step": self.state.global_step, **(fields or {})}
            self.run.publish(kind(**values))
