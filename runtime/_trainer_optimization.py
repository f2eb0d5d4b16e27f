"""What a trainer does with gradients and learning rates."""

from typing import Any, cast

import torch

from bus import Decision, Request
from runtime._agreed_flags import FlagRaised
from runtime._boxes import is_distributed
from runtime._greedy_schedule import GreedyLR
from runtime._learning_rate import first_rate, set_learning_rate
from runtime._optimizers import create_optimizer, parameter_groups
from runtime._schedules import Scheduler, create_scheduler
from runtime._trainer_base import TrainerBase

_BY_METRIC = (torch.optim.lr_scheduler.ReduceLROnPlateau, GreedyLR)
"""Schedulers that step with an evaluation's metric instead of with the optimizer."""


class Optimization(TrainerBase):
    """The methods around the optimizer's step, and those that make optimizer and scheduler."""

    optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Make both, as far as they were not given; override it for your own.

        Args:
            num_training_steps: Optimizer steps of the whole training.
        """
        self.create_optimizer()
        self.create_scheduler(num_training_steps)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer that the arguments name, unless one was given."""
        if self.optimizer is None:
            target = model or self.model
            if self.optimizer_cls_and_kwargs is None:
                self.optimizer: torch.optim.Optimizer | None = create_optimizer(target, self.args)
            else:
                kind, settings = self.optimizer_cls_and_kwargs
                self.optimizer = kind(parameter_groups(target, self.args.weight_decay), **settings)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Scheduler:
        """Make the learning rate's schedule that the arguments name, unless one was given."""
        if self.lr_scheduler is not None:
            return self.lr_scheduler
        args = self.args
        made = create_scheduler(
            args.lr_scheduler_type,
            optimizer or cast("torch.optim.Optimizer", self.optimizer),
            warmup_steps=args.get_warmup_steps(num_training_steps),
            training_steps=num_training_steps,
            kwargs=args.lr_scheduler_kwargs if isinstance(args.lr_scheduler_kwargs, dict) else None,
        )
        self.lr_scheduler: Scheduler | None = made
        self._made_scheduler = True
        return made

    def learning_rate(self) -> float | None:
        """The rate of the first parameter group now; None if the scheduler keeps it on a device."""
        return first_rate(cast("torch.optim.Optimizer", self.optimizer))

    def unscale_gradients(self) -> None:
        """Bring fp16 gradients to their true size."""
        self._precision.unscale(cast("torch.optim.Optimizer", self.optimizer))

    def clip_gradients(self, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
        """Clip the gradients' norm to `max_grad_norm`; return what it was, on the device."""
        largest = self.args.max_grad_norm
        if largest > 0 and self._sharded is None:
            return torch.nn.utils.clip_grad_norm_(parameters, largest)
        gradients = [each.grad for each in parameters if each.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if is_distributed(norm):  # summed over the processes on the device; nobody waits for it
            norm = cast("torch.Tensor", norm.full_tensor())
        if largest > 0 and gradients:
            torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
        return norm

    def forget_gradients(self) -> None:
        """Drop what an unfinished step has added up where no parameter shows it."""
        if self._sharded is not None:
            self._sharded.forget_gradients()

    def step_optimizer(self, optimizer: torch.optim.Optimizer) -> bool:
        """Step it; tell whether it did, which only fp16 gradients may prevent."""
        return self._precision.step(optimizer)

    def step_scheduler(self) -> None:
        """Go on to the next step's rate, unless the schedule follows a metric."""
        if self.lr_scheduler is not None and not isinstance(self.lr_scheduler, _BY_METRIC):
            self.lr_scheduler.step()

    def step_plateau(self, metric: float) -> None:
        """Tell a schedule that follows a metric what it is."""
        if isinstance(self.lr_scheduler, _BY_METRIC):
            self.lr_scheduler.step(metric)  # pyright: ignore[reportUnknownMemberType] - torch

    def apply_requests(self) -> None:
        """Take what was asked through the control channel: it sets the flags that callbacks set."""
        decision = self.run.safe_point(self.state.global_step)
        if decision is self._no_decision:
            return
        control = self.control
        control.should_training_stop |= decision.stop
        control.should_save |= decision.save
        control.should_evaluate |= decision.evaluate
        control.should_log |= decision.log
        if decision.learning_rate is not None:
            optimizer = cast("torch.optim.Optimizer", self.optimizer)
            set_learning_rate(optimizer, self.lr_scheduler, decision.learning_rate)
        for request in decision.requests:
            if isinstance(request, FlagRaised) and self.callback_handler.agreed is not None:
                self.callback_handler.agreed.obey(request, control)
            self.handle_request(request)
        if not decision.requests and not decision.stop:
            self._no_decision = decision

    def handle_request(self, request: Request) -> None:
        """Act on a request that took effect; override it for requests of your own kinds.

        Called on the training thread for each request, ours included, whose flags are set already.
        """

    _no_decision: Decision | None = None
    _made_scheduler: bool = False
