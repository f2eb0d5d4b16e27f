"""Trainings that are compared: evaluating, saving, callbacks that interfere, and resuming."""

from tests.vendors.trainer_cases import BEST, EPOCHS, EVERY_2, RESUME, SAVE_2, case, chain, wish

EVALUATION = (
    case("evaluation every second step", **EVERY_2),
    case("evaluation with metrics", metrics=True, **EVERY_2),
    case("evaluation as often as logging", eval_strategy="steps", logging_steps=3),
    case("evaluation as a share", eval_strategy="steps", eval_steps=0.25),
    case("evaluation each epoch", eval_strategy="epoch"),
    case("evaluation at the start", eval_on_start=True, **EVERY_2),
    case("evaluation later", eval_delay=5, **EVERY_2),
    case("evaluation in later epochs", eval_delay=1.5, eval_strategy="epoch"),
    case("two sets", eval={"a": ["map", 20], "b": ["map", 9]}, metrics=True, **EVERY_2),
    case(
        "two sets at the start",
        eval={"a": ["map", 20], "b": ["map", 9]},
        eval_on_start=True,
        **EVERY_2,
    ),
    case("loss alone", prediction_loss_only=True, **EVERY_2),
    case("results moved in parts", eval_accumulation_steps=1, metrics=True, **EVERY_2),
    case("smaller batches", per_device_eval_batch_size=3, metrics=True, **EVERY_2),
    case(
        "before and after",
        before=["evaluate", "predict"],
        after=["evaluate", "predict"],
        metrics=True,
    ),
    case("training twice", after=["train"], **EVERY_2),
    case("evaluation with accumulation", gradient_accumulation_steps=2, **EVERY_2),
)

SAVING = (
    case("saving every second step", **SAVE_2),
    case("saving at the end", save_strategy="steps", save_steps=500),
    case("saving at the end alone", save_strategy="steps", save_steps=0),
    case("saving as a share", save_strategy="steps", save_steps=0.4),
    case("saving each epoch", save_strategy="epoch"),
    case("saving with accumulation", gradient_accumulation_steps=3, **SAVE_2),
    case("the model alone", save_only_model=True, **SAVE_2),
    case("two kept", save_total_limit=2, **SAVE_2),
    case("one kept", save_total_limit=1, **SAVE_2),
    case("the best loaded", **BEST),
    case("the best loaded by accuracy", metric_for_best_model="accuracy", **BEST),
    case("an early peak loaded", metric_for_best_model="peak", **BEST),
    case("an early peak and two kept", metric_for_best_model="peak", save_total_limit=2, **BEST),
    case("an early peak and one kept", metric_for_best_model="peak", save_total_limit=1, **BEST),
    case("smaller is better", metric_for_best_model="peak", greater_is_better=False, **BEST),
    case(
        "only the best saved",
        metric_for_best_model="peak",
        metrics=True,
        **{**EVERY_2, "save_strategy": "best"},
    ),
    case(
        "only the best saved and loaded",
        metric_for_best_model="peak",
        load_best_model_at_end=True,
        metrics=True,
        save_strategy="best",
        eval_strategy="epoch",
    ),
    case(
        "a save asked for beside the best",
        metric_for_best_model="peak",
        metrics=True,
        save_strategy="best",
        wishes=wish("on_step_end", "should_save", step=6),
        mended="Q5",
        ignore="hooks checkpoints state keywords",
        **EVERY_2,
    ),
    case(
        "the best in each epoch",
        metric_for_best_model="peak",
        metrics=True,
        load_best_model_at_end=True,
        **EPOCHS,
    ),
    case("a metric that is not there", metric_for_best_model="absent", **EVERY_2),
)

INTERFERENCE = (
    case(
        "early stopping",
        early_stopping={"early_stopping_patience": 2},
        metric_for_best_model="peak",
        **BEST,
    ),
    case(
        "early stopping with a threshold",
        early_stopping={"early_stopping_patience": 1, "early_stopping_threshold": 0.5},
        metric_for_best_model="peak",
        **BEST,
    ),
    case("a stop", wishes=wish("on_step_end", "should_training_stop", step=3)),
    case(
        "a stop while evaluating",
        wishes=wish("on_evaluate", "should_training_stop", step=4),
        **EVERY_2,
        **SAVE_2,
    ),
    case("an epoch's stop", wishes=wish("on_step_end", "should_epoch_stop", step=2), **EPOCHS),
    case(
        "an epoch's stop while accumulating",
        wishes=wish("on_substep_end", "should_epoch_stop", step=1),
        gradient_accumulation_steps=2,
    ),
    case("a log asked for", wishes=wish("on_step_begin", "should_log", step=3), logging_steps=500),
    case(
        "an evaluation asked for",
        wishes=wish("on_log", "should_evaluate", step=3),
        eval=["map", 20],
    ),
    case("a save asked for", wishes=wish("on_epoch_end", "should_save")),
    case("a log taken back", wishes=wish("on_step_end", "should_log", step=3, value=False)),
    case(
        "a stop taken back",
        wishes=wish("on_step_end", "should_training_stop", nth=0, value=False),
        max_steps=4,
    ),
    case("no default flow", without=["DefaultFlowCallback"], max_steps=3, **SAVE_2),
    case("a callback that fails", wishes=[{"hook": "on_step_end", "step": 3, "error": "told to"}]),
    case(
        "a callback that fails at a save",
        wishes=[{"hook": "on_save", "step": 4, "error": "told to"}],
        **SAVE_2,
    ),
)

RESUMING = (
    chain("resumed within an epoch", {}, {"resume": "checkpoint-3"}, **RESUME),
    chain(
        "resumed at an epoch's end", {}, {"resume": "checkpoint-5"}, **{**RESUME, "save_steps": 5}
    ),
    chain("resumed in the second epoch", {}, {"resume": "checkpoint-6"}, **RESUME),
    chain("resumed at the end", {}, {"resume": True}, **RESUME),
    chain("resumed from the last", {"max_steps": 7}, {"max_steps": 10, "resume": True}, **RESUME),
    chain("resumed for longer", {}, {"num_train_epochs": 3, "resume": True}, **RESUME),
    chain(
        "resumed without skipping", {}, {"resume": "checkpoint-3"}, ignore_data_skip=True, **RESUME
    ),
    chain(
        "resumed with accumulation",
        {},
        {"resume": "checkpoint-3"},
        gradient_accumulation_steps=2,
        **RESUME,
    ),
    chain(
        "resumed with a remainder",
        {},
        {"resume": "checkpoint-3"},
        gradient_accumulation_steps=3,
        train=["map", 64],
        **RESUME,
    ),
    chain(
        "resumed a stream",
        {},
        {"resume": "checkpoint-3"},
        train=["stream", 40],
        max_steps=8,
        **RESUME,
    ),
    chain("resumed a sized stream", {}, {"resume": "checkpoint-6"}, train=["sized", 40], **RESUME),
    chain(
        "resumed with evaluation",
        {},
        {"resume": "checkpoint-4"},
        metric_for_best_model="peak",
        **BEST,
    ),
    chain("resumed each epoch", {}, {"resume": "checkpoint-5"}, **EPOCHS),
    chain(
        "resumed a schedule",
        {},
        {"resume": "checkpoint-3"},
        lr_scheduler_type="cosine",
        warmup_steps=4,
        **RESUME,
    ),
    chain(
        "resumed with a limit",
        {},
        {"resume": True, "num_train_epochs": 3},
        save_total_limit=2,
        **RESUME,
    ),
    chain("nothing to resume", {"resume": True}, **RESUME),
    chain("a checkpoint that is not there", {"resume": "checkpoint-9"}, **RESUME),
    chain(
        "resumed with other intervals",
        {},
        {"resume": "checkpoint-3", "logging_steps": 2, "save_steps": 4},
        mended="Q1",
        ignore="hooks logs history checkpoints state keywords metrics",
        **RESUME,
    ),
    chain(
        "resumed early stopping",
        {},
        {"resume": "checkpoint-6"},
        early_stopping={"early_stopping_patience": 4},
        metric_for_best_model="peak",
        num_train_epochs=3,
        mended="Q2",
        ignore="hooks logs history checkpoints state keywords metrics samples losses weights "
        "learning_rates gradients returned callbacks",
        **BEST,
    ),
    # The first evaluation of a training is its best so far, which resets the patience: one that
    # is carried over (Q13) cannot be seen.
    case(
        "early stopping twice",
        after=["train"],
        early_stopping={"early_stopping_patience": 3},
        metric_for_best_model="peak",
        **BEST,
    ),
)

FLOW = (*EVALUATION, *SAVING, *INTERFERENCE, *RESUMING)
