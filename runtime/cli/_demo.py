"""`hotloop demo`: hands over to `runtime.demo`, which loads torch, and translates its refusals."""

from pydantic import ValidationError

from runtime.cli._exit import CommandError, UsageError
from runtime.demo import DemoError, DemoOptions, NothingToResumeError, run_demo


def train(options: DemoOptions) -> None:
    """Trains the demo's model and prints the summary.

    Raises:
        UsageError: An option is out of range, or there is nothing to resume.
        CommandError: The demo cannot run here.
    """
    try:
        options.recipe()
    except ValidationError as error:
        raise UsageError(_in_words(error)) from error
    try:
        run_demo(options)
    except NothingToResumeError as error:
        raise UsageError(str(error)) from error
    except DemoError as error:
        raise CommandError(str(error)) from error


def _in_words(error: ValidationError) -> str:
    return "; ".join(
        f"--{'.'.join(map(str, each['loc'])).replace('_', '-')}: {each['msg']}"
        for each in error.errors()
    )
