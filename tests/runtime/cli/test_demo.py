"""`hotloop demo`, the toy that trains for a second; what it shows is tested with `runtime.demo`."""

import signal

import orjson
import pytest

from tests.waiting import HANG

pytestmark = pytest.mark.slow


class TestDemo:
    def test_trains_crashes_and_goes_on(self, interpreter, invoke, tmp_path, monkeypatch):
        """Killed like by `kill -9`, seen as crashed, resumed, finished."""
        monkeypatch.chdir(tmp_path)
        quick = ["-m", "runtime.cli", "demo", "--quick", "--no-progress"]
        where = {"cwd": tmp_path, "timeout": 4 * HANG}
        crashed = interpreter.run([*quick, "--crash-at", "50", "--seed", "3"], **where)
        assert crashed.code == -signal.SIGKILL
        status = invoke("status", "demo", "--json")
        assert (status.exit_code, orjson.loads(status.stdout)["state"]) == (1, "crashed")

        resumed = interpreter.run([*quick, "--resume"], **where)
        assert resumed.code == 0, resumed.err
        assert "Error" not in resumed.err  # a busy machine may warn that somebody was late
        assert "runs/demo" in resumed.out
        status = orjson.loads(invoke("status", "demo", "--json").stdout)
        assert [each["outcome"] for each in status["attempts"]] == ["crashed", status["state"]]
        assert status["state"] in {"finished", "stopped"}

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--resume"], "nothing to resume"),
            (["--learning-rate", "-1"], "--learning-rate: Input should be greater than 0"),
            (["--steps", "0"], "--steps"),
        ],
    )
    def test_wrong_usage_is_2(self, invoke, tmp_path, arguments, words):
        """The message says which option is wrong, or what there is not."""
        result = invoke("demo", "--quick", "--dir", tmp_path, *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
