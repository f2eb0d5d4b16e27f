"""How a trainer evaluates and predicts, during training and on its own."""

import math
import time
from collections.abc import Mapping
from typing import Any, cast

import torch

from bus import Evaluated, Predicted, PredictionStepEnded
from runtime._dataset_checks import is_named_sets
from runtime._evaluation import EvaluationLoop, EvaluationOptions
from runtime._evaluation_step import prediction_step
from runtime._metrics import only_numbers
from runtime._outputs import EvalLoopOutput, PredictionOutput, speed_metrics
from runtime._trainer_base import Batch
from runtime._trainer_data import Loaders
from runtime._trainer_logging import Logging
from runtime._trainer_optimization import Optimization
from runtime._trainer_setup import is_out_of_memory
from runtime._trainer_steps import BatchSteps


class Evaluation(BatchSteps, Loaders, Logging, Optimization):
    """The methods that run the model without training it."""

    _ignore_keys: list[str] | None = None
    _batches_evaluated: int = 0
    _may_give_up: bool = False

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ANN401 - anything with samples, or several by name
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate, log the metrics and tell the callbacks.

        Args:
            eval_dataset: Instead of the trainer's own; several by name are evaluated one by one,
                under `<prefix>_<name>`.
            ignore_keys: Keys of the model's outputs to leave out of the predictions.
            metric_key_prefix: What the names of the metrics begin with.

        Returns:
            The metrics by name: the loss, if there are labels, what `compute_metrics` makes, how
            long it took, and the epoch.
        """
        self._gather("evaluate")
        with self.run.phase("evaluation"):
            given = eval_dataset is not None
            data: object = eval_dataset if given else self.eval_dataset
            if not is_named_sets(data):
                return self._evaluate_one(eval_dataset, ignore_keys, metric_key_prefix, None)
            merged: dict[str, float] = {}
            for name, each in cast("Mapping[str, Any]", data).items():
                part, prefix = each if given else name, f"{metric_key_prefix}_{name}"
                merged |= self._evaluate_one(part, ignore_keys, prefix, name)
            return merged

    def predict(
        self,
        test_dataset: Any,  # noqa: ANN401 - anything with samples
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
    ) -> PredictionOutput:
        """Run the model on samples and return what it said, with metrics if they have labels."""
        self._gather("predict")
        loader = self.get_test_dataloader(test_dataset)
        started = time.time()
        with self.run.phase("prediction"):
            output = self.evaluation_loop(
                loader, "Prediction", ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix
            )
        metrics = self._timed(output, metric_key_prefix, started)
        self.call_hook("on_predict", metrics=metrics)
        self.announce(Predicted, {"metrics": only_numbers(metrics)})
        return PredictionOutput(output.predictions, output.label_ids, metrics)

    def evaluation_loop(
        self,
        dataloader: Any,  # noqa: ANN401 - any iterable of batches
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run the model on every batch; what `evaluate` and `predict` are made of.

        Args:
            dataloader: The batches.
            description: "Evaluation" or "Prediction".
            prediction_loss_only: Whether only the loss is wanted; `args.prediction_loss_only` by
                default.
            ignore_keys: Keys of the model's outputs to leave out of the predictions.
            metric_key_prefix: What the names of the metrics begin with.
        """
        args, compute = self.args, self.compute_metrics
        loss_only = (
            args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        )
        self.callback_handler.eval_dataloader = dataloader
        self._cast_for_evaluation()
        model = self._model_evaluated if self.is_in_train else self.model
        if self.args.ddp_broadcast_buffers is not False:  # each process has moved its own
            self._group.spread(model.buffers())
        model.eval()
        options = EvaluationOptions(
            batch_size=args.eval_batch_size,
            prefix=metric_key_prefix,
            keeps_predictions=not args.batch_eval_metrics or description == "Prediction",
            accumulation_steps=args.eval_accumulation_steps,
            by_batch=args.batch_eval_metrics,
            joins=args.eval_do_concat_batches,
            include=tuple(args.include_for_metrics),
            drops_non_finite=args.logging_nan_inf_filter,
            main_input=getattr(self.model, "main_input_name", "input_ids"),
        )
        self._batches_evaluated = 0
        loop = EvaluationLoop(
            lambda inputs: self.prediction_step(model, inputs, loss_only, ignore_keys),
            options,
            compute_metrics=compute,
            preprocess_logits=self.preprocess_logits_for_metrics,
            after_batch=self._after_prediction_step,
            tick=self._tick,
            together=None if self._group.alone else self._group,
            in_step=self._sharded is not None,
        )
        self.run.control.begin_phase()  # a batch takes another time than a step
        try:
            output = loop.run(dataloader)
        finally:
            if self._sharded is not None:
                self._sharded.reshard()
        self.run.control.begin_phase()
        return output

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, Any, Any]:
        """Run the model on one batch without training it; override it for a model of your own.

        Returns:
            The loss, the logits and the labels, on the device; None for what there is not.
        """
        inputs = self._prepare_inputs(inputs)
        context = self.compute_loss_context_manager

        def compute_loss(batch: Batch) -> tuple[torch.Tensor, Any]:
            items = self._count_own_items([batch])
            with context():
                loss, outputs = self.compute_loss(
                    model, batch, return_outputs=True, num_items_in_batch=items
                )
            if isinstance(outputs, torch.Tensor) and outputs is not loss:
                outputs = {"logits": outputs}  # not the loss, so it is what the model predicts
            return loss, outputs

        def forward(batch: Batch) -> Any:  # noqa: ANN401 - models return anything
            with context():
                return self.forward(model, batch)

        # A batch without names that a loss function is given ends with its labels.
        unnamed = self.compute_loss_func is not None and isinstance(inputs, (tuple, list))
        loss, logits, labels = prediction_step(
            model,
            inputs,
            label_names=[] if unnamed else self.label_names,
            returns_loss=unnamed or self.can_return_loss,
            prediction_loss_only=prediction_loss_only,
            ignore_keys=ignore_keys,
            compute_loss=compute_loss,
            forward=forward,
        )
        if unnamed and not prediction_loss_only:
            labels = cast("list[Any]", inputs)[-1]
        return loss, logits, labels

    def evaluate_in_training(self, *, best: bool) -> dict[str, float]:
        """Evaluate because training says so; what counts is in the flags afterwards.

        Args:
            best: Whether the result may become the best so far, and moves a plateau's schedule.
        """
        try:
            metrics = self.evaluate(ignore_keys=self._ignore_keys)
        except RuntimeError as error:
            if self.args.auto_find_batch_size and is_out_of_memory(error):
                raise MemoryError(
                    "an evaluation needs more memory than there is; auto_find_batch_size changes "
                    "training batches only, so lower per_device_eval_batch_size="
                    f"{self.args.per_device_eval_batch_size}"
                ) from error
            raise
        if best:
            is_new_best = self._note_metric(metrics)
            if self.args.save_strategy == "best":
                self.control.should_save |= is_new_best
        self.apply_requests()
        return metrics

    def _evaluate_one(
        self,
        dataset: Any,  # noqa: ANN401 - anything with samples, or the name of a set
        ignore_keys: list[str] | None,
        prefix: str,
        name: str | None,
    ) -> dict[str, float]:
        loader = self.get_eval_dataloader(dataset)
        started = time.time()
        output = self.evaluation_loop(
            loader,
            "Evaluation",
            prediction_loss_only=True if self.compute_metrics is None else None,
            ignore_keys=ignore_keys,
            metric_key_prefix=prefix,
        )
        # Those of the first, so that whoever decides by them decides alike everywhere.
        metrics = self._group.said_by_first(self._timed(output, prefix, started))
        self._add_up_tokens()
        self.log(metrics)
        metrics["epoch"] = self.state.epoch
        self.call_hook("on_evaluate", metrics=metrics)
        self.announce(Evaluated, {"metrics": only_numbers(metrics), "dataset": name})
        return metrics

    def _timed(self, output: EvalLoopOutput, prefix: str, started: float) -> dict[str, float]:
        metrics = dict(output.metrics or {})
        samples = output.num_samples or 0
        whole = self.args.eval_batch_size * self._group.world.size
        steps = math.ceil(samples / whole)
        metrics |= speed_metrics(prefix, started, num_samples=samples, num_steps=steps)
        return metrics

    def _tick(self) -> bool:
        """Count a batch of an evaluation; tell whether to give it up. All ranks count alike."""
        return self.run.control.tick() and self._may_give_up

    def _after_prediction_step(self) -> None:
        self.call_hook("on_prediction_step")
        self.announce(PredictionStepEnded, {"batch": self._batches_evaluated})
        self._batches_evaluated += 1

    def _cast_for_evaluation(self) -> None:
        """Bring the model to the type of a full evaluation, outside of training only."""
        if self.is_in_train:
            return
        if self.args.fp16_full_eval:
            self.model.to(dtype=torch.float16)
        elif self.args.bf16_full_eval:
            self.model.to(dtype=torch.bfloat16)

    def _note_metric(self, metrics: Mapping[str, float]) -> bool:
        """Step a schedule that follows a metric, remember the best value; tell if this is it.

        Raises:
            KeyError: The metric is not among those of the evaluation.
            TypeError: It is no number.
        """
        wanted, state = self.args.metric_for_best_model, self.state
        if wanted is None:
            return False
        name = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
        if name not in metrics:
            raise KeyError(
                f"metric_for_best_model={wanted!r} is not among the metrics of the evaluation: "
                f"{', '.join(metrics)}; set it to one of them, or let compute_metrics return it. "
                f"There is a loss if a batch has all labels, {self.label_names or 'none known'}: "
                "label_names=[...] says which of the model's inputs they are"
            )
        try:
            value = float(metrics[name])
        except (TypeError, ValueError):
            raise TypeError(
                f"metric_for_best_model={wanted!r} is {metrics[name]!r:.80} in the evaluation, "
                "which cannot be compared; let compute_metrics return a number for it"
            ) from None
        self.step_plateau(value)
        worst = -math.inf if self.args.greater_is_better else math.inf
        best = worst if state.best_metric is None else state.best_metric
        state.best_metric = best
        if not (value > best if self.args.greater_is_better else value < best):
            return False
        state.best_metric = value
        if self.args.save_strategy != "no":
            state.best_global_step = state.global_step
        return True
