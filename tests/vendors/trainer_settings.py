"""Trainings that are compared: lengths, data, models, optimizers, schedules and logging."""

from tests.vendors.trainer_cases import EPOCHS, EVERY_2, case

LENGTHS = (
    case("as it is"),
    case("accumulation with a remainder", gradient_accumulation_steps=3),
    case("accumulation that divides", gradient_accumulation_steps=5),
    case("accumulation beyond an epoch", gradient_accumulation_steps=7),
    case("a partial last batch", train=["map", 37]),
    case("a partial last batch and accumulation", train=["map", 37], gradient_accumulation_steps=2),
    case("the partial last batch dropped", train=["map", 37], dataloader_drop_last=True),
    case("one batch that is not full", train=["map", 3]),
    case("batches of one", per_device_train_batch_size=1, train=["map", 5]),
    case("max_steps within an epoch", max_steps=3),
    case("max_steps over epochs", max_steps=12),
    case("max_steps with accumulation", max_steps=7, gradient_accumulation_steps=2),
    case("a part of an epoch", num_train_epochs=0.5),
    case("an epoch and a half", num_train_epochs=1.5, **EPOCHS),
    case("no epoch", num_train_epochs=0),
    case(
        "no step",
        max_steps=0,
        mended="Q9",
        ignore="hooks logs history state returned weights samples losses learning_rates gradients "
        "keywords",
    ),
)

DATA = (
    case("in order", train_sampling_strategy="sequential"),
    case("another seed", seed=7),
    case("another seed for the data", data_seed=7),
    case("a stream", train=["stream", 40], max_steps=8),
    case("a stream over again", train=["stream", 40], max_steps=12, **EVERY_2),
    case("a stream with a partial batch", train=["stream", 37], max_steps=7),
    case("a stream and epochs", train=["stream", 40], max_steps=12, **EPOCHS),
    case(
        "a stream with accumulation",
        train=["stream", 48],
        max_steps=6,
        gradient_accumulation_steps=3,
    ),
    case(
        "a stream with a remainder",
        train=["stream", 40],
        max_steps=5,
        gradient_accumulation_steps=3,
        mended="Q8",
        ignore="hooks logs history samples losses weights learning_rates gradients returned state "
        "keywords",
    ),
    case("a stream that ends", train=["stream", 32, 0], max_steps=12, plain_loader=True),
    case("a stream with a length", train=["sized", 40]),
    case("a stream with a length and a part", train=["sized", 37], gradient_accumulation_steps=2),
    case("evaluation of a stream", eval=["stream", 20], **EVERY_2),
    case("workers", dataloader_num_workers=1, model="dropout"),
)

MODELS = (
    case("tuples", model="tuple", metrics=True, **EVERY_2),
    case("dropout", model="dropout"),
    case("dropout and evaluation", model="dropout", **EVERY_2),
    case("labels counted", model="counting", gradient_accumulation_steps=3),
    case(
        "labels counted, a part", model="counting", gradient_accumulation_steps=2, train=["map", 37]
    ),
    case(
        "labels smoothed",
        model="configured",
        label_smoothing_factor=0.1,
        train=["map", 38],
        **EVERY_2,
    ),
    case(
        "labels smoothed, accumulation",
        model="configured",
        label_smoothing_factor=0.2,
        gradient_accumulation_steps=2,
    ),
    case("a loss that is not finite", model="diverging"),
    case("a loss that is not finite, rarely logged", model="diverging", logging_steps=4),
    case(
        "a loss that is not finite, without the filter",
        model="diverging",
        logging_nan_inf_filter=False,
        mended="Q4",
        ignore="logs history returned",
    ),
    case("a model that fails", model="failing"),
    case(
        "a batch that is too large",
        model="large",
        auto_find_batch_size=True,
        per_device_train_batch_size=16,
    ),
    case("full determinism", full_determinism=True, model="dropout"),
    case("half precision", bf16=True),
    case("gpt2", model="gpt2", tokens=True, gradient_accumulation_steps=2, **EVERY_2),
)

OPTIMIZATION = (
    *(
        case(f"schedule {name}", lr_scheduler_type=name, warmup_steps=2, learning_rate=0.01)
        for name in ("linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")
    ),
    case("schedule polynomial", lr_scheduler_type="polynomial", lr_scheduler_kwargs={"power": 2.0}),
    case(
        "schedule cosine with restarts",
        lr_scheduler_type="cosine_with_restarts",
        lr_scheduler_kwargs={"num_cycles": 2},
    ),
    case(
        "schedule cosine with a floor",
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=3,
    ),
    case(
        "schedule warmup-stable-decay",
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 3, "min_lr_ratio": 0.1},
        warmup_steps=2,
    ),
    case(
        "schedule plateau",
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "factor": 0.5},
        metric_for_best_model="accuracy",
        metrics=True,
        **EVERY_2,
    ),
    case("warm-up as a share", warmup_steps=0.25),
    case("warm-up with accumulation", warmup_steps=2, gradient_accumulation_steps=2),
    case("clipping", max_grad_norm=0.01, learning_rate=0.05),
    case("no clipping", max_grad_norm=0.0),
    case("weight decay", weight_decay=0.5, learning_rate=0.05),
    case("betas", adam_beta1=0.8, adam_beta2=0.9, adam_epsilon=1e-4),
    case("plain AdamW", optim="adamw_torch"),
    case("SGD", optim="sgd", learning_rate=0.1),
)

LOGGING = (
    case("logging every third step", logging_steps=3),
    case("logging as a share", logging_steps=0.3),
    case("logging the first step", logging_steps=4, logging_first_step=True),
    case("logging never", logging_strategy="no"),
    case("logging never but the first", logging_strategy="no", logging_first_step=True),
    case("logging each epoch", logging_strategy="epoch"),
    case("logging less than once", logging_steps=500),
    case("tokens counted", include_num_input_tokens_seen="all", tokens=True, model="gpt2"),
    case(
        "printed",
        disable_tqdm=True,
        mended="Q6",
        ignore="returned.0.1.metrics.total_flos",
    ),
)

SETTINGS = (*LENGTHS, *DATA, *MODELS, *OPTIMIZATION, *LOGGING)
