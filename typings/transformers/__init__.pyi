"""The part of Transformers that `runtime.bridges.transformers` uses, for where it is not there."""

from typing import Any

class TrainingArguments:
    output_dir: str
    run_name: str | None
    resume_from_checkpoint: str | None
    should_save: bool
    do_eval: bool
    hub_model_id: str | None
    def to_dict(self) -> dict[str, Any]: ...

class TrainerState:
    epoch: float | None
    global_step: int
    max_steps: int
    num_train_epochs: int
    train_batch_size: int | None
    log_history: list[dict[str, Any]]
    best_model_checkpoint: str | None
    is_world_process_zero: bool

class TrainerControl:
    should_training_stop: bool
    should_epoch_stop: bool
    should_save: bool
    should_evaluate: bool
    should_log: bool

class TrainerCallback:
    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any: ...
    on_train_begin = on_init_end
    on_train_end = on_init_end
    on_epoch_begin = on_init_end
    on_epoch_end = on_init_end
    on_step_begin = on_init_end
    on_substep_end = on_init_end
    on_pre_optimizer_step = on_init_end
    on_optimizer_step = on_init_end
    on_step_end = on_init_end
    on_prediction_step = on_init_end
    on_log = on_init_end
    on_evaluate = on_init_end
    on_predict = on_init_end
    on_save = on_init_end
    on_push_begin = on_init_end
