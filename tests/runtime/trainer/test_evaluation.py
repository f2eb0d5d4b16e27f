"""The evaluation loop: what it returns, how it waits, and what it refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime import default_data_collator
from runtime._evaluation import EvaluationGivenUpError, EvaluationLoop, EvaluationOptions
from runtime._evaluation_step import prediction_step
from runtime._evaluation_store import Collected, batch_size_of
from runtime._loaders import LoaderOptions, build_loader

GOLDEN = json.loads((Path(__file__).parent / "golden" / "evaluation.json").read_text())


class Net(torch.nn.Module):
    """The model of the golden evaluations."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        scores = x.float() / 7 * self.w
        out = {"logits": scores, "extra": scores[:, :1] * 2}
        if labels is not None:
            out = {"loss": ((scores - labels.float()) ** 2).mean(), **out}
        return out


class Rows(torch.utils.data.Dataset):
    """The data of the golden evaluations."""

    def __init__(self, count, *, labels=True, bad=None):
        self.count, self.labels, self.bad = count, labels, bad

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        width = 2 + (index // 4) % 3
        x = torch.arange(width) + index
        row = {"x": x * math.nan if self.bad == index // 4 else x}
        return row | {"labels": torch.ones(width) * (index % 3)} if self.labels else row


class Stream(torch.utils.data.IterableDataset):
    """The same without a length."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return (self.rows[index] for index in range(len(self.rows)))


def compute(prediction, compute_result=None):  # noqa: ARG001 - asked for by batch
    """The metric function of the golden evaluations."""
    flat = []
    for part in prediction:
        inner = part if isinstance(part, tuple) else part.values() if isinstance(part, dict) else ()
        flat += [np.asarray(leaf) for leaf in inner or (part,)]
    return {
        "parts": len(flat),
        "sum": np.float64(sum(np.nansum(leaf.astype(float)) for leaf in flat)),
        "eval_mean": np.float32(np.nanmean(flat[0])),
    }


def step_of(model, *, labels=("labels",), only_loss=False, **more):
    def step(inputs):
        return prediction_step(
            model,
            inputs,
            label_names=labels,
            returns_loss=False,
            prediction_loss_only=only_loss,
            ignore_keys=None,
            compute_loss=lambda batch: ((out := model(**batch))["loss"], out),
            forward=lambda batch: model(**batch),
            **more,
        )

    return step


def evaluate(rows, options, *, step=None, **hooks):
    loader = build_loader(
        rows, batch_size=4, collator=default_data_collator, options=LoaderOptions()
    )
    return EvaluationLoop(step or step_of(Net()), options, **hooks).run(loader)


def test_an_evaluation_is_given_up_between_batches():
    """As soon as a tick says so; what it has computed by then is dropped."""
    answers = iter([False, True])
    options = EvaluationOptions(batch_size=4)
    with pytest.raises(EvaluationGivenUpError):
        evaluate(Rows(40), options, compute_metrics=compute, tick=lambda: next(answers))
    assert next(answers, None) is None


def described(value):
    if value is None or isinstance(value, (list, tuple)):
        return value if value is None else [described(part) for part in value]
    total = pytest.approx(float(np.nansum(value.astype(float))))
    return {"shape": list(value.shape), "dtype": str(value.dtype), "sum": total}


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda case: json.dumps(case["case"]).replace(" ", "")
)
def test_evaluation_is_upstreams(case):
    """Predictions, labels, metrics, their names and order are those of Transformers' Trainer."""
    asked = case["case"]
    predict, by_batch = asked.get("predict", False), asked.get("batch_eval_metrics", False)
    rows = Rows(asked.get("n", 10), labels=asked.get("labels", True), bad=asked.get("bad"))
    metrics = asked.get("metrics", True)
    options = EvaluationOptions(
        batch_size=4,
        prefix="test" if predict else "eval",
        keeps_predictions=predict or not by_batch,
        accumulation_steps=asked.get("eval_accumulation_steps"),
        by_batch=by_batch,
        joins=asked.get("eval_do_concat_batches", True),
        include=asked.get("include_for_metrics", ()),
        main_input="x",
        drops_non_finite=asked.get("logging_nan_inf_filter", True),
    )
    output = evaluate(
        Stream(rows) if asked.get("stream") else rows,
        options,
        step=step_of(Net(), only_loss=asked.get("prediction_loss_only", not metrics)),
        compute_metrics=compute if metrics else None,
    )

    assert list(output.metrics) == list(case["metrics"])
    assert output.metrics == pytest.approx(case["metrics"], rel=1e-6, nan_ok=True)
    assert all(type(value) in {int, float} for value in output.metrics.values())
    assert described(output.predictions) == case["predictions"]
    assert described(output.label_ids) == case["labels"]
    assert output.num_samples == case.get("samples", 10)


def test_loss_is_upstreams_to_the_last_bit():
    """The mean over samples is computed the way upstream does, so best models agree."""
    output = evaluate(
        Rows(10), EvaluationOptions(batch_size=4), step=step_of(Net(), only_loss=True)
    )

    assert output.metrics == {"eval_loss": 0.8768707513809204}


class Unread(torch.Tensor):
    """A tensor that tells when the host reads it."""

    reads = 0

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in {"cpu", "item", "numpy", "tolist", "__bool__"}:
            Unread.reads += 1
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize(("every", "reads"), [(None, [0, 0, 0]), (2, [0, 0, 6])])
def test_nothing_is_read_before_it_must(every, reads):
    """Results stay on the device to the end, or for as many batches as asked."""
    Unread.reads = 0
    seen = []

    def step(batch):
        score = batch["x"].float().mean().as_subclass(Unread)
        return score, score.reshape(1, 1), None

    evaluate(
        Rows(12),
        EvaluationOptions(batch_size=4, accumulation_steps=every),
        step=step,
        after_batch=lambda: seen.append(Unread.reads),
    )

    assert [count > 0 for count in seen] == [count > 0 for count in reads]


def test_metrics_batch_by_batch():
    """Each batch comes when its hook has been called, and the last one is announced."""
    calls = []

    def metrics(prediction, *, compute_result):
        calls.append((len(prediction.label_ids), compute_result))
        return {"batches": len(calls)} if compute_result else {}

    output = evaluate(
        Stream(Rows(10)),
        EvaluationOptions(batch_size=4, by_batch=True, keeps_predictions=False),
        compute_metrics=metrics,
        after_batch=lambda: calls.append("hook"),
    )

    assert calls == ["hook", (4, False), "hook", (4, False), "hook", (2, True)]
    assert output.metrics["eval_batches"] == 6
    assert output.predictions is None


def test_preprocessing_of_logits():
    """What is kept as predictions is what the function makes of them and the labels."""
    output = evaluate(
        Rows(4),
        EvaluationOptions(batch_size=4),
        preprocess_logits=lambda logits, labels: logits[0] - labels,
    )

    assert output.predictions.shape == (4, 2)
    assert output.predictions[1].tolist() == pytest.approx([1 / 7 - 1, 2 / 7 - 1])


def test_losses_of_each_sample():
    """A step that gives a loss for each sample is taken at its word."""
    output = evaluate(
        Rows(6),
        EvaluationOptions(batch_size=4, include=["loss"]),
        step=lambda batch: (batch["x"][:, 0].float(), batch["x"][:, 0], batch["x"][:, 0]),
        compute_metrics=lambda prediction: {"worst": prediction.losses.max()},
    )

    assert output.metrics == {"eval_loss": 2.5, "eval_worst": 5.0}


def test_nothing_to_evaluate():
    """Without a single batch there are no metrics, and no error."""
    empty = EvaluationLoop(step_of(Net()), EvaluationOptions(batch_size=4), compute_metrics=compute)

    assert empty.run([]) == (None, None, {}, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["text"], "the predictions of a batch is a str, .* ignore_keys"),
        ([{"a": (1, 2)}], r"predictions\['a'\]\[0\] of a batch is a int"),
        ([(torch.ones(1),), torch.ones(1)], "of batch 1 is an array .* batch 0 a tuple of 1"),
        ([{"a": torch.ones(1)}, {"b": torch.ones(1)}], "a dictionary of b, .* of a;"),
        ([torch.ones(2), torch.ones(2, 2)], "array of 2 dimensions, that of batch 0 an array of 1"),
        ([torch.ones(2, 2, 3), torch.ones(2, 2, 4)], r"second dimension: \(3,\), \(4,\)"),
    ],
    ids=["text", "nested", "structure", "keys", "dimensions", "shapes"],
)
def test_what_cannot_be_put_together(values, message):
    """It is named with its place and the way out."""
    collected = Collected("the predictions")
    for value in values:
        collected.add(value)
    with pytest.raises((TypeError, ValueError), match=message):
        collected.arrays()


def test_structures_are_kept():
    """Dictionaries, lists and tuples of any depth come back; bfloat16 as float32."""
    collected = Collected("the predictions")
    for _ in range(2):
        value = torch.ones(2, dtype=torch.bfloat16)
        collected.add({"a": [value, (np.ones(1), torch.tensor(1))]})
    found = collected.arrays()["a"]

    assert isinstance(found, list)
    assert isinstance(found[1], tuple)
    assert found[0].dtype == np.float32
    assert (found[0].shape, found[1][0].shape, found[1][1].shape) == ((4,), (2,), (2,))


def test_metrics_that_are_none():
    """A metric function that forgets to return is told so."""
    with pytest.raises(TypeError, match="compute_metrics returned a NoneType; return a dict"):
        evaluate(Rows(4), EvaluationOptions(batch_size=4), compute_metrics=lambda _: None)


@pytest.mark.parametrize("batch", [{"y": torch.ones(1)}, [torch.ones(1)]])
def test_no_main_input(batch):
    """Inputs for metrics need a name that the batch has."""
    loop = EvaluationLoop(
        lambda _: (None, None, None), EvaluationOptions(batch_size=1, include=["inputs"])
    )
    with pytest.raises(ValueError, match=r"no 'input_ids' .*; set main_input_name"):
        loop.run([batch])


def test_size_of_a_batch():
    """The first tensor with a dimension says how large a batch is."""
    assert batch_size_of({"a": torch.tensor(1), "b": [torch.ones(3, 2)]}) == 3
    assert batch_size_of((np.ones(2),)) == 2
    assert batch_size_of({"a": "text"}) is None
