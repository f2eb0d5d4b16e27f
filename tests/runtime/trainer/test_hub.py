"""Pushing to a hub, with the hub's own client, to a server on this machine."""

# ruff: noqa: ARG002 - hooks are called with more than they look at

import json
import logging

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load as load_safetensors

import runtime
from bus import AlertRaised, PushBegan
from bus.testing import Recorder
from runtime._hub import MASK, PushError
from tests.servers.hub import OWNER, HubServer
from tests.waiting import HANG

TOKEN = "hf_s3cretS3cret"  # noqa: S105 - of a test


class Pairs(torch.utils.data.Dataset):
    """Points on a line."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"x": torch.tensor([float(index)]), "labels": torch.tensor([2.0 * index])}


class Line(torch.nn.Module):
    """One weight."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, labels):
        return {"loss": torch.nn.functional.mse_loss(self.layer(x), labels)}


class Hooks(runtime.TrainerCallback):
    """Remembers hooks of pushing and saving; may wait in one, so that an upload gets ahead."""

    reads_checkpoint = False

    def __init__(self):
        self.seen = []
        self.at_step_end = lambda _state: None

    def on_train_begin(self, args, state, control, **kwargs):
        """Remember it."""
        self.seen.append("train_begin")

    def on_step_end(self, args, state, control, **kwargs):
        """Wait, if a test wants that."""
        self.at_step_end(state)

    def on_push_begin(self, args, state, control, **kwargs):
        """Remember it, and ask for what is not to be had here."""
        self.seen.append(f"push_begin {state.global_step}")
        control.should_log = False

    def on_save(self, args, state, control, **kwargs):
        """Remember it."""
        self.seen.append(f"save {state.global_step}")

    def on_train_end(self, args, state, control, **kwargs):
        """Remember it."""
        self.seen.append("train_end")


@pytest.fixture(autouse=True)
def _logged_out(monkeypatch, tmp_path):
    """Whoever runs this may be logged in."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def server(monkeypatch):
    """A hub, where the client looks for one; nothing was asked of it that it does not know."""
    hub = HubServer(TOKEN)
    hub.up()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    yield hub
    hub.gate.set()
    hub.close()
    assert hub.unknown == []


@pytest.fixture
def made(tmp_path):
    """Makes trainers and closes them."""
    trainers = []

    def make(hooks=None, **settings):
        args = runtime.TrainingArguments(
            **{
                "output_dir": str(tmp_path / "line"),
                "hub_token": TOKEN,
                "per_device_train_batch_size": 2,
                "max_steps": 4,
                "save_steps": 1,
                "report_to": "none",
                "disable_tqdm": True,
                **settings,
            }
        )
        data = Pairs()
        trainers.append(
            runtime.Trainer(
                Line(),
                args,
                train_dataset=data,
                eval_dataset=data,
                callbacks=[hooks or Hooks()],
            )
        )
        return trainers[-1]

    yield make
    for trainer in trainers:
        trainer.close()


def files_of(server, name=f"{OWNER}/line", branch="main"):
    """A branch's files."""
    return server.repos[name].files[branch]


class TestPushToHub:
    def test_sends_model_arguments_and_card(self, server, made):
        """The repository gets what save_model writes and a card, and neither runs nor state."""
        trainer = made(eval_strategy="epoch")
        trainer.train()
        commit = trainer.push_to_hub(tags="tiny", license="mit", dataset="points")

        files = files_of(server)
        assert commit.commit_message == "End of training"
        assert sorted(files) == ["README.md", "model.safetensors", "training_args.json"]
        sent = load_safetensors(files["model.safetensors"])
        assert torch.equal(sent["layer.weight"], trainer.model.layer.weight.detach())
        card = files["README.md"].decode()
        assert 'license: "mit"\ntags: ["tiny", "generated_from_trainer"]\n---' in card
        assert "# line" in card
        assert "Trained on points." in card
        assert f"- eval_loss: {trainer.state.log_history[-2]['eval_loss']}" in card
        assert "- learning_rate: 5e-05" in card
        assert "- lr_scheduler_type: linear" in card
        assert server.cards == [card]

    def test_prefixes_the_account(self, server, made):
        """The folder's name becomes a repository of the token's account, known afterwards."""
        trainer = made(hub_private_repo=True)
        assert trainer.hub_model_id is None
        trainer.push_to_hub()
        assert trainer.hub_model_id == f"{OWNER}/line"
        assert server.repos[f"{OWNER}/line"].private

    def test_names_repository_branch_and_message(self, server, made):
        """What is given goes before the arguments."""
        trainer = made(hub_model_id="club/thing", hub_revision="never", hub_token="wrong")  # noqa: S106 - of a test
        trainer.push_to_hub("hello", token=TOKEN, revision="dev", private=False)
        assert list(server.repos) == ["club/thing"]
        assert server.repos["club/thing"].titles == ["hello"]
        assert list(server.repos["club/thing"].files) == ["dev"]

    def test_hook_comes_first(self, server, made):
        """on_push_begin is called before anything is sent; its flags are ignored, as upstream."""
        seen = []

        class Early(runtime.TrainerCallback):
            def on_push_begin(self, args, state, control, **kwargs):
                seen.append(list(server.repos))
                return runtime.TrainerControl(should_training_stop=True)

        trainer = made(Early())
        heard = Recorder()
        trainer.run.subscribe(PushBegan)(heard)
        trainer.push_to_hub()
        trainer.close()
        assert [each.target for each in heard.events] == ["line"]
        assert seen == [[]]
        assert not trainer.control.should_training_stop

    def test_without_blocking(self, server, made, eventually):
        """It returns at once with a future; closing the trainer waits for it."""
        server.gate.clear()
        trainer = made()
        future = trainer.push_to_hub(blocking=False)
        eventually(lambda: any("/commit/" in each.target for each in server.requests))
        assert not future.done()
        server.gate.set()
        trainer.close()
        assert future.done()
        assert future.result().commit_message == "End of training"

    def test_waiting_for_it_ends(self, server, made, caplog):
        """Where the line hangs, waiting ends at its deadline and says so; the upload goes on."""
        server.gate.clear()
        trainer = made()
        future = trainer.push_to_hub(blocking=False)
        trainer.finish_pushes(0.05)
        assert "still being pushed to after 0.05 s; the upload ends unfinished if" in caplog.text
        server.gate.set()
        assert future.result(15).commit_message == "End of training"

    def test_leaves_a_persons_card(self, server, made, tmp_path):
        """A README.md without the line that marks ours is sent as it is."""
        trainer = made()
        (tmp_path / "line").mkdir(exist_ok=True)
        (tmp_path / "line" / "README.md").write_text("# Mine")
        trainer.push_to_hub()
        assert files_of(server)["README.md"] == b"# Mine"

    def test_save_model_pushes_if_asked(self, server, made):
        """With push_to_hub=True a model saved by hand is pushed too."""
        made(push_to_hub=True).save_model()
        assert server.titles() == ["Model save"]

    def test_refusal_is_raised_without_the_token(self, server, made):
        """A blocking push fails where it was called; a token that the hub repeats is masked."""
        server.refusing = ("/repos/create", 500)
        trainer = made()
        with pytest.raises(PushError, match="line could not be pushed to: ") as caught:
            trainer.push_to_hub()
        assert caught.value.target == "line"
        assert TOKEN not in repr(caught.getrepr(style="long"))
        assert MASK in str(caught.value)


class TestDuringTraining:
    def test_pushes_each_save_behind_training(self, server, made, eventually):
        """The repository exists first; each save is announced before on_save, and arrives."""
        hooks = Hooks()
        hooks.at_step_end = lambda state: eventually(
            lambda: len(server.titles()) == state.global_step - 1 and trainer._uploads.wait(0)
        )
        trainer = made(hooks, push_to_hub=True)
        trainer.train()
        assert hooks.seen == [
            "train_begin",
            *(f"{what} {step}" for step in range(1, 5) for what in ("push_begin", "save")),
            "train_end",
        ]
        assert server.requests[-1].target.endswith("/commit/main")
        assert server.titles() == [f"Training in progress, step {step}" for step in range(1, 5)]
        assert sorted(files_of(server)) == ["model.safetensors", "training_args.json"]

    def test_sends_nothing_before_training(self, server, made):
        """Making a trainer makes no repository; training does, before its first hook."""
        found = []
        hooks = Hooks()
        hooks.at_step_end = lambda _state: found.append(trainer.hub_model_id)
        trainer = made(hooks, push_to_hub=True, hub_strategy="end", max_steps=1)
        assert server.requests == []
        trainer.train()
        assert found == [f"{OWNER}/line"]
        assert server.titles() == []

    @pytest.mark.parametrize(
        ("strategy", "folders"),
        [
            ("checkpoint", {"last-checkpoint"}),
            ("all_checkpoints", {"checkpoint-2", "checkpoint-4"}),
        ],
    )
    def test_sends_checkpoints(self, server, made, strategy, folders):
        """By strategy the last checkpoint or all, complete, beside the model."""
        trainer = made(push_to_hub=True, hub_strategy=strategy, hub_always_push=True, save_steps=2)
        trainer.train()
        files = files_of(server)
        assert {name.split("/")[0] for name in files if "/" in name} == folders
        for folder in folders:
            listed = json.loads(files[f"{folder}/manifest.json"])["files"]
            assert {f"{folder}/{name}" for name in listed} <= set(files)
        assert server.titles()[-1] == "Training in progress, step 4, checkpoint"

    def test_skips_while_one_is_under_way(self, server, made, caplog):
        """A slow line holds nobody up: saves beside an upload are not pushed, and counted."""
        server.gate.clear()
        hooks = Hooks()
        hooks.at_step_end = lambda state: server.gate.set() if state.global_step == 4 else None
        trainer = made(hooks, push_to_hub=True, save_strategy="steps", save_steps=1, max_steps=5)
        with caplog.at_level(logging.INFO, "runtime"):
            trainer.train()
        pushed = [each for each in hooks.seen if each.startswith("push_begin")]
        assert pushed[0] == "push_begin 1"
        assert "push_begin 2" not in pushed
        assert "push_begin 3" not in pushed
        assert len(server.titles()) == len(pushed)
        assert f"{5 - len(pushed)} checkpoints were not pushed" in caplog.text

    def test_keeps_what_it_uploads(self, server, made, eventually, tmp_path):
        """A checkpoint beyond save_total_limit lives until it has arrived, and goes then."""
        server.gate.clear()
        hooks = Hooks()

        def wait(state):
            if state.global_step == 2:
                eventually(lambda: any("/commit/" in each.target for each in server.requests))
            if state.global_step == 4:
                assert (tmp_path / "line" / "checkpoint-1").is_dir()
                server.gate.set()

        hooks.at_step_end = wait
        made(hooks, push_to_hub=True, hub_strategy="all_checkpoints", save_total_limit=1).train()
        assert any(name.startswith("checkpoint-1/") for name in files_of(server))
        assert [each.name for each in (tmp_path / "line").glob("checkpoint-*")] == ["checkpoint-4"]

    @pytest.mark.parametrize("refused", [("/repos/create", 500), ("/commit/", 403)])
    def test_failure_ends_no_training(self, server, made, caplog, refused):
        """Whatever the hub answers, training ends well; log and journal say what happened."""
        server.refusing = refused
        trainer = made(push_to_hub=True, save_steps=4)
        heard = Recorder()
        trainer.run.subscribe(AlertRaised)(heard)
        assert trainer.train().global_step == 4
        trainer.close()
        assert "could not be pushed to" in caplog.text
        assert {each.title for each in heard.events} == {"not pushed to the hub"}
        told = caplog.text + "".join(each.text for each in heard.events)
        assert TOKEN not in told
        assert MASK in told

    def test_repository_is_made_later(self, server, made):
        """If the hub was away when training began, the next save tries again."""
        server.refusing = ("/repos/create", 500)
        hooks = Hooks()
        hooks.at_step_end = lambda _state: setattr(server, "refusing", None)
        trainer = made(hooks, push_to_hub=True, save_steps=4)
        trainer.train()
        assert server.titles() == ["Training in progress, step 4"]

    def test_nothing_keeps_the_token(self, server, made, tmp_path):
        """Neither files nor journal nor the repository."""
        trainer = made(push_to_hub=True, hub_strategy="checkpoint", save_steps=4)
        trainer.train()
        trainer.push_to_hub()
        trainer.close()
        written = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()]
        assert len(written) > 5
        sent = files_of(server).values()
        assert not any(TOKEN.encode() in each for each in [*written, *sent])


class TestRefused:
    def test_missing_token(self, made):
        """Without a token one hears what to set, before anything is trained."""
        wanted = r"set hub_token=\.\.\., or the environment variable HF_TOKEN, or log in"
        with pytest.raises(ValueError, match=wanted):
            made(push_to_hub=True, hub_token=None)
        with pytest.raises(ValueError, match=wanted):
            made(hub_token=None).push_to_hub()

    def test_token_of_the_environment(self, server, made, monkeypatch):
        """HF_TOKEN is as good as hub_token."""
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        made(hub_token=None).push_to_hub()
        assert server.titles() == ["End of training"]

    @pytest.mark.parametrize("token", [f"{TOKEN}\n", f"a {TOKEN}", f"{TOKEN}\N{EM DASH}"])
    def test_broken_token(self, made, token):
        """One that cannot stand in a header is refused without being shown."""
        with pytest.raises(ValueError, match="holds a space, a line break") as caught:
            made(push_to_hub=True, hub_token=token)
        assert TOKEN not in str(caught.value)

    @pytest.mark.slow
    def test_missing_package(self, interpreter):
        """Without the extra one hears the command; without pushing nobody asks for it."""
        script = (
            "import sys; sys.modules['huggingface_hub'] = None\n"
            "import runtime, torch\n"
            "runtime.Trainer(torch.nn.Linear(1, 1))\n"
            "args = runtime.TrainingArguments(push_to_hub=True, hub_token='t')\n"
            "runtime.Trainer(torch.nn.Linear(1, 1), args)\n"
        )
        done = interpreter.run(["-c", script], timeout=3 * HANG)
        assert done.err.splitlines()[-1].startswith("ImportError: pushing to a hub needs")
        assert done.err.rstrip().endswith("pip install 'hotloop[hub]'")
