"""How a trainer trains, from finding a batch that fits to the loop."""

import logging
from typing import cast

import torch

from runtime._arguments import TrainingArguments
from runtime._callback_states import restore_states
from runtime._checkpoint_contents import LoadedCheckpoint
from runtime._data_parallel import DataParallel
from runtime._flops import FlopCounter
from runtime._label_smoothing import LabelSmoother
from runtime._loaders import has_length
from runtime._loop import TrainingLoop
from runtime._losses import LossSum
from runtime._optimizer_checks import check_schedule
from runtime._outputs import TrainOutput
from runtime._precision import Precision
from runtime._resume import (
    GRAD_NORM,
    GUARD,
    LAST_LOGGED,
    LEARNING_RATE,
    LOSSES,
    Resumed,
    kept_mapping,
    kept_number,
    kept_tensor,
    place,
)
from runtime._schedules import Scheduler
from runtime._sharding import ShardedModel, is_sharded
from runtime._sharding_options import ShardingOptions, sharding_options
from runtime._signatures import can_return_loss, find_labels
from runtime._state import TrainerState
from runtime._token_count import TokenCount, Which
from runtime._trainer_given import checked_model
from runtime._trainer_metrics import MetricFiles
from runtime._trainer_preemption import Preemption
from runtime._trainer_saving import read_state
from runtime._trainer_setup import (
    accepts_loss_arguments,
    compiled,
    enable_gradient_checkpointing,
    is_out_of_memory,
)
from runtime._training_plan import TrainingPlan, plan_training

log = logging.getLogger("runtime")


class Training(Preemption, MetricFiles):
    """The methods that prepare a training and run its loop."""

    _given_optimizers: tuple[torch.optim.Optimizer | None, Scheduler | None]

    def _train_until_it_fits(self, checkpoint: LoadedCheckpoint | None) -> TrainOutput:
        """Train; if asked for, with smaller batches after each time the memory was too small."""
        while True:
            try:
                return self._train_once(checkpoint)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not self.args.auto_find_batch_size or not is_out_of_memory(error):
                    raise
                self._shrink_batch(error)

    def _train_once(self, checkpoint: LoadedCheckpoint | None) -> TrainOutput:
        loader = self.get_train_dataloader()
        sized: object = loader
        batches = len(sized) if has_length(sized) else None
        plan = plan_training(
            self.args,
            batches=batches,
            samples=self.num_examples(loader) if batches is not None else None,
            batch_size=self._train_batch_size * self._group.world.size,
        )
        state, resumed = self._starting_state(plan, batches, checkpoint)
        self.state: TrainerState = state
        self._start_counting(resumed)
        if (guard := self.run.active_guard) is not None:
            guard.load_state_dict(kept_mapping(resumed, GUARD), device=self.device)
        self._prepare_model(plan)
        if resumed is not None:
            self.load_training_state(resumed.checkpoint)
        handler = self.callback_handler
        handler.model, handler.optimizer = self.model, self.optimizer
        handler.lr_scheduler, handler.train_dataloader = self.lr_scheduler, loader
        self._feed = self.make_feed(loader)
        return TrainingLoop(self, plan, self._feed, resumed).run()

    def _starting_state(
        self, plan: TrainingPlan, batches: int | None, checkpoint: LoadedCheckpoint | None
    ) -> tuple[TrainerState, Resumed | None]:
        """The state that training begins with, and where a checkpoint lets it go on."""
        state, resumed = TrainerState(), None
        if checkpoint is not None:
            state = read_state(checkpoint)
            resumed = place(
                checkpoint,
                state,
                plan,
                self.args,
                batch_size=self._train_batch_size,
                batches=batches,
            )
            restore_states(self.callback_handler, state.stateful_callbacks)
        state.compute_steps(self.args, plan.max_steps)
        state.train_batch_size = self._train_batch_size
        state.max_steps, state.num_train_epochs = plan.max_steps, plan.epochs
        state.is_world_process_zero = self.is_world_process_zero()
        state.is_local_process_zero = self.is_local_process_zero()
        return state, resumed

    def _start_counting(self, resumed: Resumed | None) -> None:
        """Begin the sums of losses, operations and tokens, or go on with a checkpoint's."""
        state, filtered = self.state, self.args.logging_nan_inf_filter
        self.note_resumed(resumed)
        self._losses = LossSum(filtered=filtered)
        self._total = LossSum(filtered=False)
        self._step_losses = []
        logged = kept_number(resumed, LAST_LOGGED)
        self._last_logged = state.global_step if logged is None else int(logged)
        self._grad_norm = kept_tensor(resumed, GRAD_NORM, self.device)
        self._learning_rate = kept_number(resumed, LEARNING_RATE)
        carried = LossSum(filtered=filtered)
        for each in (self._losses, carried):  # of which one is summed now
            each.restore(kept_mapping(resumed, LOSSES), self.device)
        self._carried = carried.peek()
        self._flos, self._flos_before = 0.0, state.total_flos
        self._tokens = TokenCount(
            cast("Which", self.args.include_num_input_tokens_seen),
            getattr(self.model, "main_input_name", "input_ids"),
            getattr(self.processing_class, "pad_token_id", None),
            state.num_input_tokens_seen,
        )

    def _prepare_model(self, plan: TrainingPlan) -> None:
        """Make optimizer and schedule, and what is called in the loop."""
        args = self.args
        if self.is_in_train and self._made_scheduler:
            self.lr_scheduler: Scheduler | None = None
            self._made_scheduler = False
        self._precision = Precision(args, self.device)
        if args.gradient_checkpointing:
            settings = args.gradient_checkpointing_kwargs
            enable_gradient_checkpointing(
                self.model, settings if isinstance(settings, dict) else None
            )
        self.create_optimizer_and_scheduler(plan.max_steps)
        if self.optimizer is not None and self.lr_scheduler is not None:
            check_schedule(self.optimizer, self.lr_scheduler)
        if self._sharded is not None:
            self.data_parallel: DataParallel | ShardedModel | None = self._sharded
        elif not self._group.alone:
            self.data_parallel = DataParallel(self.model, args)
        parallel, make = self.data_parallel, compiled if args.torch_compile else _as_it_is
        wrapped = parallel.module if parallel else self.model
        self.model_wrapped: torch.nn.Module = make(wrapped, args)
        # Batches of evaluations may be uneven, so nothing is to be exchanged there.
        self._model_evaluated: torch.nn.Module = (
            self.model_wrapped if wrapped is self.model else make(self.model, args)
        )
        self._draw_own_numbers()

    def _draw_own_numbers(self) -> None:
        """Let devices draw different random numbers, for dropout; orders are drawn on the host."""
        rank = self._group.world.rank
        if rank and self.device.type == "cuda":
            torch.cuda.manual_seed((self.args.seed + rank) % 2**32)

    def _found_batch_size(self, checkpoint: LoadedCheckpoint | None) -> int:
        """Samples of a micro-batch: those asked for, or what an earlier attempt found to fit."""
        found = None
        if checkpoint is not None and self.args.auto_find_batch_size:
            found = read_state(checkpoint).train_batch_size
        return found or self._train_batch_size

    def _shrink_batch(self, error: BaseException) -> None:
        smaller = int(self._train_batch_size * 0.9)
        if smaller < 1:
            raise RuntimeError(
                "the memory is too small even for a batch of 1; use a smaller model, shorter "
                "samples, gradient_checkpointing=True or bf16=True"
            ) from error
        text = f"batches of {self._train_batch_size} do not fit into memory; again with {smaller}"
        log.warning("%s", text)
        self.run.alert("out of memory", text, step=self.state.global_step)
        self._train_batch_size = smaller
        if self.optimizer is not self._given_optimizers[0]:
            self.optimizer: torch.optim.Optimizer | None = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _placed(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model on its device, or sharded over those of all processes."""
        options = sharding_options(self.args.fsdp, self.args.fsdp_config)
        if options is None and is_sharded(model):  # by whoever made it
            options = ShardingOptions()
        self._sharded = None
        if options is None or self._group.alone:
            return checked_model(model, "model").to(self.device)
        first = not self._group.world.rank
        checked = checked_model(model, "model", may_be_empty=not first)
        self._sharded = ShardedModel(checked, options, self.args, self._group)
        return checked

    def _set_model(self, model: torch.nn.Module) -> None:
        """Train another model from now on."""
        self.model: torch.nn.Module = self._placed(model)
        self.model_wrapped = self._model_evaluated = self.model
        self.data_parallel = None
        self._examine_model()
        if self.optimizer is not self._given_optimizers[0]:
            self.optimizer = None
        self.callback_handler.model = self.model

    def _examine_model(self) -> None:
        """See what the model takes and returns."""
        names = self.args.label_names
        self.label_names: list[str] = (
            list(names) if names is not None else find_labels(type(self.model))
        )
        self.can_return_loss: bool = can_return_loss(type(self.model))
        self.model_accepts_loss_kwargs: bool = accepts_loss_arguments(self.model)
        smoothing = self.args.label_smoothing_factor
        self.label_smoother: LabelSmoother | None = LabelSmoother(smoothing) if smoothing else None
        self._flop_counter = FlopCounter(self.model)
        self._precision = Precision(self.args, self.device)


def _as_it_is(model: torch.nn.Module, args: TrainingArguments) -> torch.nn.Module:  # noqa: ARG001 - as `compiled`
    return model
