"""Sets groups of training arguments at once, by the names that scripts written for upstream use.

Each method resets its whole group: what is not given gets the method's default. Values are checked
one by one; whether they fit together is checked again when a trainer is made.
"""

from collections.abc import Sequence
from typing import Self

from runtime._argument_data import DataFields
from runtime._argument_derivations import derive
from runtime._argument_validation import validated
from runtime._choices import (
    HubStrategy,
    IntervalStrategy,
    OptimizerNames,
    SaveStrategy,
    SchedulerType,
)


class SettableFields(DataFields):
    """Arguments that can be set by group; each method returns the arguments it is called on."""

    def set_training(
        self,
        learning_rate: float = 5e-5,
        batch_size: int = 8,
        *,
        weight_decay: float = 0,
        num_epochs: float = 3,
        max_steps: int = -1,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
        activation_checkpointing: bool = False,
    ) -> Self:
        """Set what training needs at least, and `do_train`."""
        return self._set(
            do_train=True,
            learning_rate=learning_rate,
            per_device_train_batch_size=batch_size,
            weight_decay=weight_decay,
            num_train_epochs=num_epochs,
            max_steps=max_steps,
            gradient_accumulation_steps=gradient_accumulation_steps,
            seed=seed,
            activation_checkpointing=activation_checkpointing,
        )

    def set_evaluate(
        self,
        strategy: IntervalStrategy | str = "no",
        steps: float = 500,
        *,
        batch_size: int = 8,
        accumulation_steps: int | None = None,
        delay: float | None = None,
        loss_only: bool = False,
    ) -> Self:
        """Set when and how to evaluate, and `do_eval` accordingly."""
        _refuse_no_steps(strategy, steps)
        return self._set(
            eval_strategy=strategy,
            do_eval=strategy != IntervalStrategy.NO,
            eval_steps=steps,
            per_device_eval_batch_size=batch_size,
            eval_accumulation_steps=accumulation_steps,
            eval_delay=delay or 0,
            prediction_loss_only=loss_only,
        )

    def set_testing(self, batch_size: int = 8, loss_only: bool = False) -> Self:
        """Set how to predict, and `do_predict`."""
        return self._set(
            do_predict=True, per_device_eval_batch_size=batch_size, prediction_loss_only=loss_only
        )

    def set_save(
        self,
        strategy: SaveStrategy | str = "steps",
        steps: float = 500,
        *,
        total_limit: int | None = None,
        on_each_node: bool = False,
    ) -> Self:
        """Set when to save, and how many checkpoints to keep."""
        _refuse_no_steps(strategy, steps)
        return self._set(
            save_strategy=strategy,
            save_steps=steps,
            save_total_limit=total_limit,
            save_on_each_node=on_each_node,
        )

    def set_logging(
        self,
        strategy: IntervalStrategy | str = "steps",
        steps: float = 500,
        *,
        report_to: str | Sequence[str] = "none",
        level: str = "passive",
        first_step: bool = False,
        nan_inf_filter: bool = False,
        on_each_node: bool = False,
        replica_level: str = "passive",
    ) -> Self:
        """Set when, where and what to log."""
        _refuse_no_steps(strategy, steps)
        return self._set(
            logging_strategy=strategy,
            logging_steps=steps,
            report_to=report_to,
            log_level=level,
            logging_first_step=first_step,
            logging_nan_inf_filter=nan_inf_filter,
            log_on_each_node=on_each_node,
            log_level_replica=replica_level,
        )

    def set_push_to_hub(
        self,
        model_id: str,
        strategy: HubStrategy | str = "every_save",
        *,
        token: str | None = None,
        private_repo: bool | None = None,
        always_push: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Set where and when to push, and `push_to_hub`."""
        return self._set(
            push_to_hub=True,
            hub_model_id=model_id,
            hub_strategy=strategy,
            hub_token=token,
            hub_private_repo=private_repo,
            hub_always_push=always_push,
            hub_revision=revision,
        )

    def set_optimizer(
        self,
        name: OptimizerNames | str = "adamw_torch",
        learning_rate: float = 5e-5,
        *,
        weight_decay: float = 0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        args: str | None = None,
    ) -> Self:
        """Set the optimizer; the betas and epsilon are AdamW's."""
        return self._set(
            optim=name,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            adam_beta1=beta1,
            adam_beta2=beta2,
            adam_epsilon=epsilon,
            optim_args=args,
        )

    def set_lr_scheduler(
        self,
        name: SchedulerType | str = "linear",
        num_epochs: float = 3.0,
        max_steps: int = -1,
        warmup_steps: float = 0,
    ) -> Self:
        """Set the learning rate's schedule and the training's length."""
        return self._set(
            lr_scheduler_type=name,
            num_train_epochs=num_epochs,
            max_steps=max_steps,
            warmup_steps=warmup_steps,
        )

    def set_dataloader(
        self,
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        *,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = True,
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        multiprocessing_context: str | None = None,
        in_order: bool = True,
        auto_find_batch_size: bool = False,
        ignore_data_skip: bool = False,
        sampler_seed: int | None = None,
    ) -> Self:
        """Set how data is loaded."""
        return self._set(
            per_device_train_batch_size=train_batch_size,
            per_device_eval_batch_size=eval_batch_size,
            dataloader_drop_last=drop_last,
            dataloader_num_workers=num_workers,
            dataloader_pin_memory=pin_memory,
            dataloader_persistent_workers=persistent_workers,
            dataloader_prefetch_factor=prefetch_factor,
            dataloader_multiprocessing_context=multiprocessing_context,
            dataloader_in_order=in_order,
            auto_find_batch_size=auto_find_batch_size,
            ignore_data_skip=ignore_data_skip,
            data_seed=sampler_seed,
        )

    def _set(self, **values: object) -> Self:
        """Set checked values, and what follows from them.

        Raises:
            ValueError: A value is of the wrong type, or none of its field's choices.
        """
        for name, value in validated(type(self), values).items():
            setattr(self, name, value)
        derive(self)
        return self


def _refuse_no_steps(strategy: str, steps: float) -> None:
    if strategy == "steps" and steps == 0:
        raise ValueError('strategy="steps" with steps=0: give the steps in between, or another one')
