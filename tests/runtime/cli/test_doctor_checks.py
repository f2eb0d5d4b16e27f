"""The checks of `hotloop doctor`, one by one."""

import sys
import tomllib
from pathlib import Path

import pytest

from runtime.cli.doctor._accelerator import Answer, check_accelerator, judge
from runtime.cli.doctor._disk import (
    Mount,
    check_file_system,
    check_space,
    check_writable,
    mount_of,
    nearest_folder,
    parse_mounts,
)
from runtime.cli.doctor._machine import RELEASED, check_clock, check_cores, check_workers
from runtime.cli.doctor._shadows import OUR_ROOT, check_owners, check_shadows
from runtime.cli.doctor._versions import (
    MINIMUM_PYTHON,
    MINIMUMS,
    check_package,
    check_python,
    release,
)

HERE = Path(__file__).parent


def seen(built_for, *devices):
    return Answer(version="2.13.0", built_for=built_for, devices=list(devices))


class TestVersions:
    def test_floors_are_those_of_the_package(self):
        """What the doctor calls too old is what the installer would have refused."""
        project = tomllib.loads((OUR_ROOT / "pyproject.toml").read_text())["project"]
        floors = dict(each.split(">=") for each in project["dependencies"])
        assert {name: release(floors[name]) for name in MINIMUMS} == MINIMUMS
        assert project["requires-python"] == f">={MINIMUM_PYTHON[0]}.{MINIMUM_PYTHON[1]}"

    @pytest.mark.parametrize(
        ("text", "numbers"),
        [("2.13.0+cpu", (2, 13, 0)), ("2.6rc1", (2, 6)), ("1.dev3", (1,)), ("x", ())],
    )
    def test_reads_the_leading_numbers(self, text, numbers):
        """Local and pre-release parts do not count."""
        assert release(text) == numbers

    @pytest.mark.parametrize(
        ("name", "floor", "level", "words"),
        [
            ("pydantic", (2,), "ok", ""),
            ("pydantic", (999, 1), "problem", 'pip install "pydantic>=999.1"'),
            ("no-such-package", (1,), "problem", 'pip install "no-such-package>=1"'),
        ],
    )
    def test_says_how_to_get_what_is_missing_or_old(self, name, floor, level, words):
        """The advice can be pasted into a shell."""
        finding = check_package(name, floor)
        assert (finding.level, finding.advice) == (level, words)

    def test_refuses_an_old_python(self):
        """An interpreter below the floor is a problem."""
        assert check_python((3, 10, 9)).level == "problem"
        assert check_python(sys.version_info[:3]).level == "ok"


class TestShadows:
    @pytest.fixture(autouse=True)
    def _alone(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("PYTHONPATH", raising=False)

    @pytest.mark.parametrize("name", ["runtime", "bus", "sinks"])
    @pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py", "{}.pyc"])
    def test_finds_whatever_python_would_import(self, tmp_path, name, form):
        """A module, a package or compiled code of that name stands before ours."""
        path = tmp_path / form.format(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        (finding,) = check_shadows([])
        assert finding.level == "problem"
        assert finding.found.startswith(f"{path} shadows our package `{name}`")
        assert f"mv {tmp_path / name}" in finding.advice

    def test_warns_of_a_folder_that_is_harmless_as_yet(self, tmp_path):
        """Without __init__.py ours wins; with one it would not."""
        (tmp_path / "bus").mkdir()
        (tmp_path / "bus" / "timetable.py").write_text("")
        (finding,) = check_shadows([])
        assert finding.level == "warn"
        assert "__init__.py" in finding.found

    def test_ignores_a_folder_without_python(self, tmp_path):
        """`runtime/` with log files is nobody's package."""
        (tmp_path / "runtime").mkdir()
        assert [each.level for each in check_shadows([])] == ["ok"]

    def test_does_not_mistake_ours_for_a_shadow(self, monkeypatch):
        """In a checkout of this project the current folder holds ours."""
        monkeypatch.chdir(OUR_ROOT)
        assert [each.level for each in check_shadows([OUR_ROOT])] == ["ok"]

    def test_looks_along_pythonpath(self, tmp_path, monkeypatch):
        """Its folders come before installed packages for every program."""
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "sinks.py").write_text("")
        monkeypatch.setenv("PYTHONPATH", f":{tmp_path / 'lib'}")
        (finding,) = check_shadows([])
        assert "every Python program" in finding.found

    def test_names_another_distribution_with_our_names(self):
        """Two distributions that install one package overwrite each other's files."""
        (finding,) = check_owners({"bus": ["hotloop", "omnibus"], "runtime": ["hotloop"]})
        assert finding.level == "problem"
        assert finding.advice.startswith("pip uninstall omnibus")


class TestDisk:
    def test_looks_above_a_folder_that_does_not_exist_yet(self, tmp_path):
        """The first run makes the folder; what counts is where."""
        assert nearest_folder(tmp_path / "a" / "b") == tmp_path
        assert nearest_folder(tmp_path) == tmp_path

    def test_leaves_nothing_behind(self, tmp_path):
        """The file it wrote is gone."""
        assert check_writable(tmp_path).level in {"ok", "warn"}
        assert not list(tmp_path.iterdir())

    def test_says_when_nothing_can_be_written(self):
        """Not even root writes into /proc."""
        finding = check_writable(Path("/proc"))
        assert finding.level == "problem"
        assert "Run(dir=...)" in finding.advice

    @pytest.mark.parametrize(("free", "level"), [(50.0, "ok"), (0.5, "warn"), (0.01, "problem")])
    def test_judges_free_space(self, free, level):
        """Below 1 GiB it warns, below a tenth it is a problem."""
        assert check_space(HERE, free).level == level

    @pytest.mark.parametrize(
        ("kind", "level", "word"),
        [
            ("ext4", "ok", ""),
            ("overlay", "ok", ""),
            ("nfs4", "warn", "O_APPEND"),
            ("fuse.sshfs", "warn", "O_APPEND"),
            ("lustre", "warn", "fsync"),
            ("fuse.s3fs", "warn", "object store"),
            ("tmpfs", "warn", "reboot"),
        ],
    )
    def test_explains_the_file_system(self, kind, level, word):
        """What it means for a journal, not only its name."""
        finding = check_file_system(HERE, Mount(Path("/"), kind))
        assert finding.level == level
        assert word in finding.advice

    def test_finds_the_mount_a_folder_is_on(self):
        """The deepest mount point above it; the later one where two cover each other."""
        text = (
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            "30 22 0:40 / /data rw - ext4 /dev/sdb rw\n"
            "31 30 0:41 / /data rw master:3 - nfs4 server:/export rw\n"
            "32 30 0:42 / /data/my\\040runs rw - tmpfs tmpfs rw\n"
            "garbage\n"
        )
        mounts = parse_mounts(text)
        kinds = [
            mount_of(Path(path), mounts).kind
            for path in ("/etc", "/data/x", "/data/my runs/gpt", "/database")
        ]
        assert kinds == ["ext4", "nfs4", "tmpfs", "ext4"]
        assert check_file_system(HERE, mount_of(HERE, [])).level == "ok"


class TestMachine:
    @pytest.mark.parametrize(
        ("now", "files", "level"),
        [
            (0.0, None, "problem"),
            (RELEASED + 9, RELEASED + 9.5, "ok"),
            (RELEASED + 9, None, "ok"),
            (RELEASED + 9, RELEASED + 60, "warn"),
        ],
    )
    def test_judges_the_clock(self, now, files, level):
        """A clock that was never set, or one that disagrees with the file server's."""
        assert check_clock(now, files).level == level

    def test_warns_of_a_single_core(self):
        """Our two threads would share it with training."""
        assert [check_cores(count).level for count in (1, 2)] == ["warn", "ok"]

    @pytest.mark.parametrize(
        ("method", "word"), [("fork", "run.log"), ("spawn", "__main__"), ("forkserver", "__main__")]
    )
    def test_explains_how_workers_start(self, method, word):
        """What each start method asks of a training script."""
        assert word in check_workers(method).advice


class TestAccelerator:
    @pytest.mark.parametrize(
        ("answer", "present", "hidden", "level", "word"),
        [
            (seen("12.8", "H200", "H200"), True, None, "ok", "2 CUDA device(s): H200"),
            (seen(None), False, None, "ok", "none"),
            (seen("12.8"), False, None, "ok", "none"),
            (seen(None), True, None, "warn", "CPU build"),
            (seen("12.8"), True, "", "warn", "CUDA_VISIBLE_DEVICES=''"),
            (seen("12.8"), True, None, "warn", "driver"),
        ],
    )
    def test_compares_what_torch_sees_with_what_there_is(
        self, answer, present, hidden, level, word
    ):
        """A GPU that torch cannot use is worth a warning, with its likely reason."""
        finding = judge(answer, gpu_present=present, hidden=hidden)
        assert finding.level == level
        assert word in finding.found + finding.advice

    @pytest.mark.slow
    @pytest.mark.parametrize("torch", ["raise ImportError('no libfoo.so')", "print('hello'); 1/0"])
    def test_passes_on_why_torch_does_not_load(self, tmp_path, monkeypatch, torch):
        """The last line of its traceback says it."""
        (tmp_path / "torch.py").write_text(torch)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        finding = check_accelerator()
        assert finding.level == "problem"
        assert "Error: " in finding.found

    @pytest.mark.slow
    def test_asks_the_torch_that_is_installed(self):
        """On any machine that runs these tests torch loads."""
        assert check_accelerator().level in {"ok", "warn"}
