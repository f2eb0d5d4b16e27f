"""The command line as a whole."""

import pytest

from runtime.cli._app import app

COMMANDS = [command.callback.__name__ for command in app.registered_commands]


class TestHelp:
    def test_without_arguments_it_explains_itself(self, invoke):
        """Nothing typed is a question, not an error."""
        result = invoke()
        assert result.exit_code == 0
        assert all(name in result.stdout for name in COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_command_documents_examples_and_exit_codes(self, invoke, command):
        """Somebody who writes a script finds there what it may rely on."""
        result = invoke(command, "--help")
        assert result.exit_code == 0
        assert "Examples:\n" in result.stdout
        assert "Exit codes:\n" in result.stdout
        assert f"hotloop {command}" in result.stdout

    def test_says_its_version(self, invoke):
        """One line that can be pasted into a report."""
        result = invoke("--version")
        assert result.exit_code == 0
        assert result.stdout.startswith("hotloop ")

    @pytest.mark.parametrize(
        "arguments", [["nonsense"], ["tail"], ["export", "gpt"], ["tail", "gpt", "--lines", "-1"]]
    )
    def test_wrong_usage_is_2(self, invoke, arguments):
        """A mistyped command line is told apart from a run that failed."""
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert "Error" in result.stderr

    @pytest.mark.parametrize(
        "arguments", [["status"], ["tail"], ["tail", "-f"], ["export", "--to=csv"], ["report"]]
    )
    def test_no_such_run_is_2(self, invoke, folder, arguments):
        """Every command that reads a run says what it looked for and what is there."""
        result = invoke(*arguments, "gtp")
        assert result.exit_code == 2
        assert not result.stdout
        assert "no run at 'gtp'" in result.stderr
        assert f"runs/{folder.path.name}" in result.stderr


@pytest.mark.slow
class TestStart:
    @pytest.mark.parametrize("command", [["tail"], ["status"], ["export", "--to", "csv"]])
    def test_loads_neither_torch_nor_http(self, folder, python, command):
        """Looking at a run on a login node takes a moment and little memory."""
        folder.attempt(1, outcome="finished")
        program = f"""
import sys
from runtime.cli._app import app
app([*{command!r}, {str(folder.path)!r}], standalone_mode=False)
print("LOADED", {{"torch", "httpx", "numpy"}} & set(sys.modules))
"""
        assert python(program).splitlines()[-1] == "LOADED set()"

    def test_help_loads_nothing_of_ours_but_the_command_line(self, python):
        """`hotloop --help` waits for no data model."""
        program = """
import sys
from runtime.cli._app import app
app(["--help"], standalone_mode=False)
print("LOADED", {"bus", "pydantic", "anyio", "torch", "httpx"} & set(sys.modules))
"""
        assert python(program).splitlines()[-1] == "LOADED set()"
