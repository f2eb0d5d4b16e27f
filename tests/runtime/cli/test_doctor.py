"""`hotloop doctor` as a whole; each check in test_doctor_checks.py."""

import subprocess
import sys

import orjson
import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder and no PYTHONPATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


@pytest.mark.usefixtures("here")
class TestVerdict:
    def test_an_environment_that_works_is_0(self, invoke):
        """Every check has a line; none of them is a problem."""
        result = invoke("doctor", "--no-torch")
        assert result.exit_code == 0
        for word in ("python", "torch", "shadowing", "run directory", "file system", "clock"):
            assert word in result.stdout

    def test_json_has_the_same_findings(self, invoke):
        """A list of objects with the four fields that are documented."""
        findings = orjson.loads(invoke("doctor", "--no-torch", "--json").stdout)
        assert {tuple(each) for each in findings} == {("check", "level", "found", "advice")}
        assert {each["level"] for each in findings} <= {"ok", "warn"}

    def test_a_problem_is_1_and_says_what_to_do(self, here, invoke):
        """The table names the file, and how to get rid of the problem."""
        (here / "runtime.py").write_text("")
        result = invoke("doctor", "--no-torch")
        assert result.exit_code == 1
        words = " ".join(result.stdout.split())
        assert "shadows our package `runtime`" in words
        assert "my_runtime.py" in words
        assert "1 problem, 0 warnings" in words

    def test_a_path_that_does_not_exist_is_2(self, invoke):
        """A typing error is not mistaken for a clean bill of health."""
        assert invoke("doctor", "--path", "nowhere").exit_code == 2

    def test_looks_beside_a_script(self, here, invoke):
        """`--path` may be the script itself; its folder is where Python looks first."""
        (here / "work").mkdir()
        (here / "work" / "bus.py").write_text("")
        (here / "work" / "train.py").write_text("import bus")
        result = invoke("doctor", "--no-torch", "--json", "--path", "work/train.py")
        found = [each for each in orjson.loads(result.stdout) if each["level"] == "problem"]
        assert result.exit_code == 1
        assert "work/bus.py" in found[0]["found"]


@pytest.mark.slow
class TestShadowed:
    @pytest.mark.parametrize("module", ["runtime.py", "runtime/__init__.py"])
    def test_is_right_about_what_a_script_gets(self, here, environment, module):
        """Where the doctor sees a shadow, a script started there really gets the wrong module.

        The doctor itself starts as the console script does: without the current folder on the path.
        """
        theirs = here / module
        theirs.parent.mkdir(exist_ok=True)
        theirs.write_text("")
        (here / "train.py").write_text("import runtime; print(runtime.__file__)")
        doctor = [sys.executable, "-P", "-m", "runtime.cli", "doctor", "--no-torch", "--json"]
        script = [sys.executable, "train.py"]
        said, got = (
            subprocess.run(  # noqa: S603 - our own command, and a script of the test
                command,
                cwd=here,
                env=environment,
                capture_output=True,
                text=True,
                timeout=15,
                check=False,
            )
            for command in (doctor, script)
        )
        problems = [each for each in orjson.loads(said.stdout) if each["level"] == "problem"]
        assert (said.returncode, len(problems)) == (1, 1)
        assert got.stdout.strip() == str(theirs)
        assert problems[0]["found"].startswith(f"{theirs} shadows our package `runtime`")

    def test_notices_when_it_is_shadowed_itself(self, here, environment, start):
        """With a foreign `bus` on PYTHONPATH not even this process has ours, and it says so."""
        foreign = here / "lib" / "bus"
        foreign.mkdir(parents=True)
        (foreign / "__init__.py").write_text("raise ImportError")
        path = f"{foreign.parent}:{environment['PYTHONPATH']}"
        out, err = start(["doctor", "--no-torch", "--json"], PYTHONPATH=path).communicate(
            timeout=15
        )
        found = [each["found"] for each in orjson.loads(out) if each["level"] == "problem"]
        assert err == ""
        assert any("the folder is on PYTHONPATH" in each for each in found)
        assert any(f"`import bus` finds {foreign}" in each for each in found)

    def test_does_not_load_torch(self, here, python):
        """The doctor asks torch in another process."""
        program = f"""
import sys
from runtime.cli._app import app
app(["doctor", "--dir", {str(here)!r}], standalone_mode=False)
print("LOADED", {{"torch", "httpx"}} & set(sys.modules))
"""
        lines = python(program).splitlines()
        assert lines[-1] == "LOADED set()"
        assert any("accelerator" in line for line in lines)
