"""Policies: episodes repeat themselves, advantages and targets are as defined, both algorithms learn, bad input."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from src.commands.inspect import inspect
from src.commands.predict import predict
from src.config import compose
from src.data.environments.episodes import Environment
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.experiment.build import build_model
from src.metrics.episodes import Ended
from src.models.load import load_model
from src.models.rl.agent import Agent
from src.models.rl.dqn import DQN, Replay, Steps
from src.models.rl.ppo import PPO, advantages
from src.rl import environments
from src.rl.environments import VectorEnv
from src.runtime.renames import renamed
from src.runtime.signals import Signals
from src.tasks.control import view
from src.training.callbacks.checkpoint import save_atomically
from tests.conftest import Lab
from tests.models.test_contracts_runs import Cut, CutAt
from tests.tiny import dataset

CARTPOLE = ("CartPole-v1", 500)


def agent(*overrides: str, model: str = "ppo") -> Agent:
    torch.manual_seed(0)
    return build_model(compose([f"model={model}", "model.width=16", *overrides]), dataset("environment").spec)


def parts(folder: Path, *overrides: str, model: str = "ppo") -> Parts:
    torch.set_num_threads(1)
    given = [f"model={model}", "trainer=cpu", "data.val_episodes=10", "data.test_episodes=10", "optimizer=adam"]
    made = assemble(compose([*given, *overrides]), Signals())
    made.checkpoint.directory = made.texts.folder = made.pictures.folder = folder
    return made


# environments --------------------------------------------------------------------------------------------------------


def at_random(steps: int) -> Tensor:
    return torch.randint(2, (steps, 3), generator=torch.Generator().manual_seed(0))


def test_the_same_seed_and_actions_come_to_the_same_state() -> None:
    """Also after episodes have ended, and by taking the actions again, which is how a run is resumed."""
    vector, again, other = (VectorEnv(*CARTPOLE, 3) for _ in range(3))
    actions, ended = at_random(100), 0
    vector.begin(5)
    for row in actions:
        ended += int(vector.step(row).ended.sum())
    again.begin(5, vector.actions)
    other.begin(6, vector.actions)
    assert ended > 3 and torch.equal(vector.actions, actions)
    assert torch.equal(vector.observation, again.observation)
    assert not torch.equal(vector.observation, other.observation)
    for row in actions:
        assert all(map(torch.equal, vector.step(row), again.step(row)))


def test_a_step_that_ends_an_episode_leads_to_its_last_observation() -> None:
    vector = VectorEnv("CartPole-v1", 12, 3)
    vector.begin(1)
    cut = fell = 0
    for row in at_random(60):
        before = vector.observation
        moved = vector.step(row)
        assert torch.equal(moved.observation, before)
        going = ~moved.ended
        assert torch.equal(moved.next[going], vector.observation[going])
        assert not torch.isclose(moved.next[moved.ended], vector.observation[moved.ended]).all(1).any()
        assert (moved.next[moved.terminated, 2].abs() > 0.2).all()  # the pole's angle, at which it counts as fallen
        cut, fell = cut + int((moved.ended & ~moved.terminated).sum()), fell + int(moved.terminated.sum())
    assert cut > 2 and fell > 2
    returns, lengths, count, reward, steps = vector.tally().tolist()
    assert returns == lengths and count == cut + fell and reward == steps == 60


def test_an_episode_does_not_depend_on_those_beside_it() -> None:
    seeds = [7, 8, 9]
    together = environments.play(*CARTPOLE, seeds, environments.at_random(2, seeds))
    alone = [environments.play(*CARTPOLE, [seed], environments.at_random(2, [seed])) for seed in seeds]
    assert torch.equal(together, torch.cat(alone))
    assert len(set(together[:, 1].tolist())) == 3 and torch.equal(together[:, 0], together[:, 1])


def test_episodes_are_those_of_the_split_seed_whatever_the_run_s_own() -> None:
    def data(**options) -> Environment:
        made = Environment(name="CartPole-v1", steps=64, val_episodes=3, test_episodes=4, **options)
        made.setup()
        return made

    first, same, other = data(seed=1), data(seed=2), data(split_seed=1)
    assert first.spec == same.spec and first.spec.sha256 != other.spec.sha256
    seeds = [*first.splits["val"]["seed"].tolist(), *first.splits["test"]["seed"].tolist()]
    assert len(set(seeds)) == 7
    assert first.spec.splits == {"val": 3, "test": 4, "train": 64} and first.spec.num_classes == 2
    assert first.spec.input.id == "CartPole-v1"
    assert first.spec.input.max_steps == 500 and first.spec.input.copies == 8
    assert [batch["index"].tolist()[0] for batch in Environment.train_dataloader(first)] == [0]


def test_what_is_seen_becomes_a_row_of_numbers() -> None:
    """A number of sixteen fields of ice is one of sixteen columns."""
    first = environments.start("FrozenLake-v1", None, [0])
    assert first.observations.tolist() == [[1.0] + [0.0] * 15] and first.actions == 4


# what is learned from ------------------------------------------------------------------------------------------------


def test_advantages_as_their_definition_has_them() -> None:
    """The sum of all later surprises, each weighed by (discount * lambda)^distance, up to the end of the episode."""
    torch.manual_seed(0)
    reward, value, after = torch.randn(3, 6, 2).double()
    ended = torch.zeros(6, 2, dtype=torch.bool)
    ended[2, 0] = ended[4, 1] = True
    terminated = ended.clone()
    terminated[4, 1] = False  # cut off: what was expected after it counts
    found = advantages(reward, value, after, terminated, ended, 0.9, 0.8)
    for copy in range(2):
        for step in range(6):
            expected, weight = 0.0, 1.0
            for later in range(step, 6):
                follows = 0.0 if terminated[later, copy] else 0.9 * after[later, copy]
                expected += weight * float(reward[later, copy] + follows - value[later, copy])
                weight *= 0.9 * 0.8
                if ended[later, copy]:
                    break
            assert found[step, copy].item() == pytest.approx(expected)


def steps(actions: int = 2) -> Steps:
    draw = torch.Generator().manual_seed(0)
    observation, following = torch.randn(2, 5, 4, generator=draw)
    terminated = torch.tensor([True, False, False, False, True])
    return Steps(observation, torch.arange(5) % actions, torch.arange(5).float(), following, terminated)


@pytest.mark.parametrize("double", [True, False])
def test_the_target_of_a_q_learner(double: bool) -> None:
    model, given = agent(f"model.double={double}", model="dqn"), steps()
    for p in model.value.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    found = model.loss(given)
    errors = []
    for row in range(5):
        one = given.next[row : row + 1]
        chosen = (model.net if double else model.value)(one).argmax()
        follows = 0.0 if given.terminated[row] else 0.99 * model.value(one)[0, chosen]
        worth = model.net(given.observation[row : row + 1])[0, given.action[row]]
        errors.append(torch.nn.functional.huber_loss(worth, given.reward[row] + follows))
    torch.testing.assert_close(found, torch.stack(errors).mean())
    assert all(p.grad is None and not p.requires_grad for p in model.value.parameters())


def test_the_oldest_steps_make_room() -> None:
    replay = Replay(4)
    for number in range(6):
        row = steps()
        moved = environments.Moved(
            row.observation[:1], row.next[:1], torch.tensor([float(number)]), *[torch.zeros(1) > 0] * 2
        )
        replay.keep(torch.zeros(1, dtype=torch.int64), moved)
    torch.manual_seed(0)
    assert set(replay.draw(100, torch.device("cpu")).reward.tolist()) == {2.0, 3.0, 4.0, 5.0}
    again = Replay(4)
    again.load_state_dict(replay.state_dict())
    torch.manual_seed(0)
    assert again.seen == 6 and set(again.draw(100, torch.device("cpu")).reward.tolist()) == {2.0, 3.0, 4.0, 5.0}


def test_the_share_of_chance_falls() -> None:
    learner = agent("model.learning_starts=10", "model.exploration_steps=100", model="dqn")
    assert isinstance(learner, DQN)
    shares = []
    for seen in (0, 9, 50, 100, 1000):
        learner.replay.seen = seen
        shares.append(learner.exploration)
    assert shares == pytest.approx([1, 1, 0.52, 0.04, 0.04])


def test_while_no_episode_has_ended_those_that_go_on_count() -> None:
    metric = Ended(0)
    going, ended = [0, 0, 0, 5, 6, 0, 0], [30, 40, 2, 5, 6, 0, 0]
    for rows, expected in (([going, going], 10), ([going, ended], 15)):
        metric.reset()
        metric.update(torch.tensor(rows, dtype=torch.float32), torch.zeros(2))
        assert metric.compute() == expected


# runs ----------------------------------------------------------------------------------------------------------------

DQN_OPTIONS = ("data.steps=1024", "data.batch_size=128", "model.learning_starts=200", "model.gradient_steps=32")


def test_ppo_learns_to_balance(tmp_path) -> None:
    made = parts(tmp_path, "optimizer.lr=3e-3", "trainer.max_epochs=3", "data.steps=6144", "model.n_epochs=6")
    made.trainer.fit(made.model, datamodule=made.data)
    made.trainer.test(made.model, datamodule=made.data, verbose=False)
    history = made.model.history
    chance = made.model.metrics["test"].baseline()["return"]
    assert chance < 40 and history["test/return"][-1][1] > 120
    assert history["train/return"][-1][1] > 2 * history["train/return"][0][1]
    assert history["train/exploration"][-1][1] < history["train/exploration"][0][1] <= 1
    assert made.trainer.global_step == 18


def test_dqn_learns_what_a_fall_costs(tmp_path) -> None:
    """After some thousand steps the upright pole is worth more than the falling one."""
    made = parts(
        tmp_path, *DQN_OPTIONS, "optimizer.lr=1e-3", "trainer.max_epochs=4", "model.activation=relu", model="dqn"
    )
    made.trainer.fit(made.model, datamodule=made.data)
    upright, falling = torch.zeros(1, 4), torch.tensor([[0.0, 0.0, 0.2, 1.5]])
    with torch.no_grad():
        assert made.model(upright).max() > made.model(falling).max() + 1
    assert made.model.history["train/exploration"][0][1] > made.model.history["train/exploration"][-1][1]
    assert made.trainer.global_step == 32


def test_dqn_cut_in_an_epoch_and_resumed_to_the_same_bits(tmp_path) -> None:
    given = [*DQN_OPTIONS, "trainer.max_epochs=2", "checkpoint.every_n_steps=3", "checkpoint.every_seconds=1000"]
    whole = parts(tmp_path / "whole", *given, model="dqn")
    whole.trainer.fit(whole.model, datamodule=whole.data)
    cut = parts(tmp_path / "cut", *given, model="dqn")
    cut.trainer.callbacks.append(CutAt(14))
    with pytest.raises(Cut):
        cut.trainer.fit(cut.model, datamodule=cut.data)
    last = cut.checkpoint.last_path
    assert 8 < torch.load(last, weights_only=True)["global_step"] < 14
    resumed = parts(tmp_path / "cut", *given, model="dqn")
    resumed.trainer.fit(resumed.model, datamodule=resumed.data, ckpt_path=str(last), weights_only=True)
    assert resumed.model.history == whole.model.history
    got, expected = (
        torch.load(folder / "last.ckpt", weights_only=True) for folder in (tmp_path / "cut", tmp_path / "whole")
    )
    assert all(torch.equal(got["state_dict"][name], expected["state_dict"][name]) for name in expected["state_dict"])


def test_weights_load_without_gymnasium(tmp_path, monkeypatch) -> None:
    model = agent()
    model.config = {"model": {"_target_": "src.models.PPO", "width": 16}, "task": {}}
    save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, tmp_path / "a.ckpt")
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    again, seen = load_model(tmp_path / "a.ckpt"), torch.randn(3, 4)
    assert torch.equal(again(seen), model(seen))
    with pytest.raises(UserError, match=r"needs gymnasium: pip install -e '\.\[rl\]'"):
        again.step_output({"seed": torch.tensor([1])}, "test")


def test_a_policy_is_one_of_both_algorithms() -> None:
    """`model=policy` builds what `model=ppo` and `model=dqn` build, and so does what it was called with before."""
    for algorithm, family in (("ppo", PPO), ("dqn", DQN)):
        alias, own = agent(f"model.algorithm={algorithm}", model="policy"), agent(model=algorithm)
        assert type(alias) is type(own) is family
        assert all(torch.equal(alias.state_dict()[name], value) for name, value in own.state_dict().items())
    saved = renamed({"_target_": "src.models.policy.Policy", "algorithm": "dqn", "discount": 0.9, "warmup": 7})
    assert saved == {"_target_": "src.models.Policy", "algorithm": "dqn", "gamma": 0.9, "learning_starts": 7}


def test_an_old_checkpoint_s_options_are_read(tmp_path) -> None:
    model = agent("model.target_update_interval=3", model="dqn")
    options = {"_target_": "src.models.policy.Policy", "algorithm": "dqn", "width": 16, "target_every": 3}
    model.attach(config={"model": options, "task": {}})
    save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, tmp_path / "a.ckpt")
    again = load_model(tmp_path / "a.ckpt")
    assert isinstance(again, DQN) and again.target_update_interval == 3


# what a run leaves, and commands -------------------------------------------------------------------------------------


def test_a_run_is_evaluated_to_the_same_bits_and_plays(lab: Lab, capsys) -> None:
    options = ["data.steps=512", "data.batch_size=256", "data.test_episodes=6", "data.val_episodes=3"]
    result = lab.train(
        "model=ppo", "trainer=cpu", "trainer.max_epochs=1", "threads=1", "tracking.system_metrics=false", *options
    )
    assert (result.code, result.err) == (0, "")  # pygame does not look for a display
    assert "│ return " in result.out
    (run,) = lab.runs()
    assert (lab.artifacts(run.info.run_id) / "figures" / "episode.png").stat().st_size > 1000
    judged = lab.run("evaluate", "run=last", "resamples=20")
    assert "these figures equal those that the run logged, to the last bit" in judged.out, judged.out + judged.err
    best = lab.artifacts(run.info.run_id) / "checkpoints" / "best.ckpt"
    table = lab.folder / "mine.csv"

    def ask(*overrides: str) -> None:
        config = compose([f"run={best}", *overrides], name="predict")
        predict(config)

    ask(f"output={table}", "seed=3")
    rows = list(csv.DictReader(table.open()))
    earned = sum(float(row["reward"]) for row in rows)
    assert f"episode of seed 3: return {earned:g} in {len(rows)} steps; mine.csv in " in capsys.readouterr().out
    assert {row["action"] for row in rows} <= {"0", "1"}
    for overrides, message in (
        ([f"output={table}"], "mine.csv exists"),
        (["output=a.png"], "output=a.png: a name that ends in .gif or .csv"),
        ([f"data.path={table}"], "acts in CartPole-v1 and predicts no rows"),
    ):
        with pytest.raises(UserError, match=message):
            ask(*overrides)


def test_an_environment_is_looked_at(capsys) -> None:
    assert inspect(compose(["data=environment", "data.steps=64", "output=null"], name="inspect")) == []
    out = capsys.readouterr().out
    assert "environment, 4" in out and "2 to choose from in each of at most 500 steps" in out
    assert "models that fit: dqn, policy, ppo (control)" in out


def test_an_episode_as_a_moving_picture(tmp_path) -> None:
    pytest.importorskip("pygame")
    played = view.episode(agent(), 1, pictures=True)
    with Image.open(view.save_gif(tmp_path / "a.gif", played)) as picture:
        assert picture.n_frames > 1 and picture.size == (300, 200)
    assert played.milliseconds == 40 and played.earned == len(played.steps)


# what is refused -----------------------------------------------------------------------------------------------------


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as error:
        assemble(compose(["model=ppo", "trainer=cpu", *overrides]), Signals())
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.name=CartPol-v1"], "data.name=CartPol-v1: there is no such environment (did you mean CartPole-v1?)"),
        (["data.name=Chess"], "data.name=Chess: there is no such environment"),
        (["data.name=nowhere:Chess-v0"], "data.name=nowhere:Chess-v0 cannot be imported"),
        (["model=dqn", "data.name=Pendulum-v1"], "Pendulum-v1 has actions of Box"),
        (["data.name=Pendulum-v1"], "a policy here chooses one of several (Discrete)"),
        (["model=policy", "model.algorithm=sarsa"], "model.algorithm: expects one of ppo, dqn, got 'sarsa'"),
        (["model.gamma=1.5"], "model.gamma=1.5 must be between 0 and 1"),
        (["model.n_epochs=0"], "model.n_epochs=0 must be at least 1"),
        (["trainer.gradient_clip_val=1.0"], "trainer.gradient_clip_val=1.0 does not go with PPO"),
        (["data=iris"], "takes environment data, data=iris is table data"),
        (["model=fnn", "data=environment"], "models that fit: dqn, policy, ppo"),
    ],
)
def test_what_is_refused(overrides: list[str], message: str) -> None:
    assert message in refused(*overrides)


@pytest.mark.parametrize("option", ["steps", "num_envs", "val_episodes", "test_episodes", "max_steps"])
def test_counts_start_at_one(option: str) -> None:
    with pytest.raises(UserError, match=f"data.{option}=0 must be at least 1"):
        Environment(name="CartPole-v1", **{option: 0})


def test_gymnasium_that_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert refused() == "data=environment needs gymnasium: pip install -e '.[rl]'"


def test_an_environment_without_a_limit_needs_one(monkeypatch) -> None:
    import gymnasium

    spec = replace(gymnasium.spec("CartPole-v1"), id="Endless-v0", max_episode_steps=None)
    monkeypatch.setitem(gymnasium.registry, "Endless-v0", spec)
    assert (
        refused("data.name=Endless-v0")
        == "data.name=Endless-v0 sets its episodes no limit: give one, data.max_steps=1000"
    )
    assert environments.start("Endless-v0", 30, [1]).max_steps == 30
