"""The evaluation loop: batches go through a step, and what comes of them becomes metrics.

Nothing waits for the device before the last batch, unless `accumulation_steps` or metrics batch
by batch ask for it. It knows no trainer: the step, the metrics and the hook are handed over.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

import torch

from runtime._evaluation_step import Prediction
from runtime._evaluation_store import (
    Collected,
    CollectedLosses,
    batch_size_of,
    joined_tensors,
    to_arrays,
)
from runtime._loaders import has_length
from runtime._outputs import EvalLoopOutput, EvalPrediction, denumpify
from runtime._rank_data import shared_data
from runtime._stand_ins import StandIns

_Values: TypeAlias = tuple[Any, Any, Any, Any]
"""Losses, predictions, labels and inputs of a batch, each None if there is none."""

ValueT = TypeVar("ValueT")

_KINDS: Final = ("the losses", "the predictions", "the labels", "the inputs")

_NOTHING: Final = object()
"""Stands for a batch where other processes have one more."""

ComputeMetrics: TypeAlias = Callable[..., Any]
PreprocessLogits: TypeAlias = Callable[[Any, Any], Any]


class Together(Protocol):
    """What an evaluation needs of the processes that share it."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        ...

    def collected(self, value: ValueT) -> list[ValueT]:
        """What everybody has, by rank; every process calls it equally often."""
        ...


class EvaluationGivenUpError(Exception):
    """There is no time to end the evaluation; on every rank after equally many ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How an evaluation goes.

    Attributes:
        batch_size: Samples of a batch whose tensors do not say.
        prefix: What the names of metrics begin with, followed by an underscore.
        keeps_predictions: Whether predictions, labels and inputs are kept; not needed when
            metrics are computed batch by batch.
        accumulation_steps: Batches after which results are moved to the host; None for once.
        by_batch: Whether `compute_metrics` gets each batch, and at the last one
            `compute_result=True`.
        joins: Whether batches become one array; otherwise they stay a list.
        include: What `compute_metrics` gets besides predictions and labels: "inputs", "loss".
        main_input: The part of a batch that "inputs" means.
        drops_non_finite: Whether samples without a finite loss count for nothing.
    """

    batch_size: int
    prefix: str = "eval"
    keeps_predictions: bool = True
    accumulation_steps: int | None = None
    by_batch: bool = False
    joins: bool = True
    include: Collection[str] = ()
    main_input: str = "input_ids"
    drops_non_finite: bool = True


class EvaluationLoop:
    """One pass over evaluation data.

    Args:
        step: Makes loss, predictions and labels of a batch; see `prediction_step`.
        options: How it goes.
        compute_metrics: Makes metrics of an `EvalPrediction`.
        preprocess_logits: Makes of predictions and labels what is kept as predictions.
        after_batch: Called when a batch is done.
        tick: Called behind each batch; tells whether to give up. Where several processes evaluate,
            all call it equally often in the end, and it gives all the same answers.
        together: The other processes, if each of several evaluates its share.
        in_step: Whether a step needs all processes: whoever has no batch left then repeats one, of
            which nothing is kept.
    """

    def __init__(
        self,
        step: Callable[[Any], Prediction],
        options: EvaluationOptions,
        *,
        compute_metrics: ComputeMetrics | None = None,
        preprocess_logits: PreprocessLogits | None = None,
        after_batch: Callable[[], None] | None = None,
        tick: Callable[[], bool] | None = None,
        together: Together | None = None,
        in_step: bool = False,
    ) -> None:
        self._step = step
        self._options = options
        self._compute_metrics = compute_metrics
        self._preprocess = preprocess_logits
        self._after_batch = after_batch
        self._tick = tick
        self._together = together
        self._stand_ins = StandIns(together) if in_step and together is not None else None
        self._losses = CollectedLosses(joins=options.joins)
        self._predictions = Collected("the predictions", joins=options.joins)
        self._labels = Collected("the labels", joins=options.joins)
        self._inputs = Collected("the inputs", joins=options.joins)
        self._metrics: Any = None

    def run(self, loader: Iterable[Any]) -> EvalLoopOutput:
        """Evaluate every batch, then compute the metrics.

        Returns:
            Predictions and labels as numpy arrays, and the metrics: `{prefix}_loss`, the mean over
            samples, and what `compute_metrics` returned, each name with the prefix.

        Raises:
            TypeError: `compute_metrics` returned no dictionary, or a prediction is no tensor.
            ValueError: Predictions of different batches do not fit together.
            EvaluationGivenUpError: `tick` said so.
        """
        seen = 0
        shared: object = shared_data(getattr(loader, "dataset", None))
        every, ticks, gives_up = self._options.accumulation_steps, 0, False
        for batch, is_last in self._with_last(loader):
            if batch is not _NOTHING:
                seen += batch_size_of(batch) or 0
            self._evaluate(batch, is_last=is_last)
            ticks, gives_up = ticks + 1, self._counts()
            if gives_up:
                break
            if every is not None and ticks % every == 0:
                self._to_host()
        if self._together is not None:
            for _ in range(ticks, max(self._together.collected(ticks))):
                gives_up |= self._counts()
        if gives_up:
            raise EvaluationGivenUpError
        if self._together is not None:
            seen = self._take_all(self._together, seen)
        predictions, labels = self._predictions.arrays(), self._labels.arrays()
        metrics = self._final_metrics(predictions, labels)
        return EvalLoopOutput(predictions, labels, metrics, _count(shared, seen))

    def _counts(self) -> bool:
        """Count a batch; tell whether that was enough."""
        return self._tick is not None and self._tick()

    def _with_last(self, loader: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
        """Each batch, and whether it is the last; looks ahead only if somebody wants to know.

        As long as another process has one, there is nothing instead of a batch.
        """
        if not self._options.by_batch and self._stand_ins is None:
            yield from ((batch, False) for batch in loader)
            return
        batches = iter(loader)
        batch = next(batches, _NOTHING)
        goes_on = self._anybody(batch is not _NOTHING)
        while goes_on:
            following = next(batches, _NOTHING)
            goes_on = self._anybody(following is not _NOTHING)
            yield batch, not goes_on
            batch = following

    def _anybody(self, has: bool) -> bool:
        return has if self._together is None else any(self._together.collected(has))

    def _evaluate(self, batch: Any, *, is_last: bool) -> None:  # noqa: ANN401 - users' batches
        options, values = self._options, None
        stand_in = None
        if self._stand_ins is not None:
            stand_in = self._stand_ins.batch(None if batch is _NOTHING else batch)
        if batch is not _NOTHING:
            values = self._evaluate_own(batch)
        elif stand_in is not None:
            self._step(stand_in)
        compute = self._compute_metrics
        if not options.by_batch or compute is None:
            return
        if self._together is not None:
            values = self._joined(values, self._together)
        if values is None:
            return
        losses, logits, labels, inputs = values
        if logits is not None and labels is not None:
            more = self._more(inputs=inputs, losses=losses)
            self._metrics = compute(EvalPrediction(logits, labels, **more), compute_result=is_last)

    def _evaluate_own(self, batch: Any) -> _Values:  # noqa: ANN401 - users' batches
        """Evaluate a batch and keep what is to be kept."""
        options = self._options
        loss, logits, labels = self._step(batch)
        size = batch_size_of(batch) or options.batch_size
        if loss is not None:
            self._losses.add(loss, size)
        if logits is not None and self._preprocess is not None:
            logits = self._preprocess(logits, labels)
        if options.keeps_predictions:
            if "inputs" in options.include:
                self._inputs.add(_main_input(batch, options.main_input))
            if logits is not None:
                self._predictions.add(logits)
            if labels is not None:
                self._labels.add(labels)
        if self._after_batch is not None:
            self._after_batch()
        return None if loss is None else _for_each_sample(loss, size), logits, labels, batch

    def _joined(self, values: _Values | None, together: Together) -> _Values | None:
        """The values of one round of all processes, on the device that this one's are on."""
        own: list[Any] | None = None
        if values is not None:
            wanted = [*values[:3], values[3] if "inputs" in self._options.include else None]
            own = [_host(value, what) for value, what in zip(wanted, _KINDS, strict=True)]
        parts = [each for each in together.collected(own) if each is not None]
        if not parts:
            return None
        columns = zip(_KINDS, zip(*parts, strict=True), strict=True)
        losses, logits, labels, inputs = (
            None if column[0] is None else joined_tensors(column, what, together.device)
            for what, column in columns
        )
        return losses, logits, labels, inputs

    def _take_all(self, together: Together, seen: int) -> int:
        """Keep what all processes have; returns how many samples they have seen."""
        kinds: list[Collected | CollectedLosses]
        kinds = [self._predictions, self._labels, self._inputs, self._losses]
        own = [kind.own() for kind in kinds]
        everybody = together.collected((own, seen))
        for index, kind in enumerate(kinds):
            kind.take_all([parts[index] for parts, _ in everybody])
        return sum(count for _, count in everybody)

    def _more(self, *, inputs: Any, losses: Any) -> dict[str, Any]:  # noqa: ANN401 - tensors or arrays
        include = self._options.include
        return {
            "inputs": inputs if "inputs" in include else None,
            "losses": losses if "loss" in include else None,
        }

    def _to_host(self) -> None:
        for collected in (self._losses, self._predictions, self._labels, self._inputs):
            collected.to_host()

    def _final_metrics(self, predictions: Any, labels: Any) -> dict[str, float]:  # noqa: ANN401 - arrays
        options, compute = self._options, self._compute_metrics
        found = self._metrics
        complete = predictions is not None and labels is not None
        if compute is not None and complete and not options.by_batch:
            more = self._more(inputs=self._inputs.arrays(), losses=self._losses.arrays())
            found = compute(EvalPrediction(predictions, labels, **more))
        elif found is None:
            found = {}
        if not isinstance(found, Mapping):
            raise TypeError(
                f"compute_metrics returned a {type(found).__name__}; return a dictionary of "
                'numbers by name, such as {"accuracy": 0.9}'
            )
        metrics = dict(cast("Mapping[str, Any]", found))
        wrong = next((name for name in metrics if not isinstance(name, str)), None)  # pyright: ignore[reportUnnecessaryIsInstance] - users' functions
        if wrong is not None:
            raise TypeError(
                f"compute_metrics returned a number under {wrong!r}; give each metric a name that "
                "is a string"
            )
        loss = self._losses.mean(drops_non_finite=options.drops_non_finite)
        if loss is not None:
            metrics[f"{options.prefix}_loss"] = loss
        return _prefixed(denumpify(metrics), f"{options.prefix}_")


def _prefixed(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """Names that have the prefix already come first, as upstream."""
    ready = {name: value for name, value in metrics.items() if name.startswith(prefix)}
    others = {name: value for name, value in metrics.items() if name not in ready}
    return ready | {f"{prefix}{name}": value for name, value in others.items()}


def _for_each_sample(loss: torch.Tensor, size: int) -> torch.Tensor:
    return loss.reshape(-1).repeat(size) if loss.numel() == 1 else loss


def _main_input(batch: Any, name: str) -> Any:  # noqa: ANN401 - users' batches
    if isinstance(batch, Mapping) and name in batch:
        return cast("Mapping[str, Any]", batch)[name]
    known = (
        ", ".join(map(str, cast("Mapping[str, Any]", batch))) if isinstance(batch, Mapping) else ""
    )
    raise ValueError(
        f"include_for_metrics has 'inputs', but a batch has no {name!r} "
        f"({'it has ' + known if known else 'its parts have no names'}); set main_input_name on "
        "the model's class to the name of its main input"
    )


def _host(value: Any, what: str) -> Any:  # noqa: ANN401 - nested tensors
    return None if value is None else to_arrays(value, what)


def _count(dataset: object, seen: int) -> int:
    """How many samples there were: what the dataset says, or what was seen."""
    return (len(dataset) if has_length(dataset) else seen) or seen
