"""Keras models: as beginners write them, trained, resumed, evaluated, run again, and exported to Keras again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.inference.export import write as export
from src.inference.load import Trained
from src.models.load import load_model
from src.runtime import trust
from src.runtime.signals import Signals
from src.training.callbacks.checkpoint import save_atomically
from tests.conftest import ROOT, Lab
from tests.own_package import write

os.environ["KERAS_BACKEND"] = "torch"  # before the tests below import it
NETS = '''
import keras
from keras import layers


def classic():
    """As the first example of many books has it."""
    return keras.Sequential([
        keras.Input((20,)),
        layers.Dense(64, activation="relu"),
        layers.Dense(32, activation="relu"),
        layers.Dense(1, activation="sigmoid"),
    ])


def dropout(in_features: int, num_outputs: int, units: int = 16):
    inputs = keras.Input((in_features,))
    x = layers.Dense(units, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.4)(x)
    x = layers.GaussianNoise(0.1)(x)
    return keras.Model(inputs, layers.Dense(num_outputs)(x))


def regularised(in_features: int, num_outputs: int):
    return keras.Sequential([
        keras.Input((in_features,)), layers.Dense(num_outputs, kernel_regularizer=keras.regularizers.L2(0.5)),
    ])


def softmax_dense(in_features: int, num_classes: int):
    return keras.Sequential([keras.Input((in_features,)), layers.Dense(num_classes, activation="softmax")])


def softmax_activation(in_features: int, num_classes: int):
    net = keras.Sequential([keras.Input((in_features,)), layers.Dense(num_classes)])
    net.add(layers.Activation(keras.activations.softmax))
    return net


def softmax_layer(in_features: int, num_classes: int):
    inputs = keras.Input((in_features,))
    return keras.Model(inputs, layers.Softmax()(layers.Dense(num_classes)(inputs)))


def softmax_operation(in_features: int, num_classes: int):
    inputs = keras.Input((in_features,))
    return keras.Model(inputs, keras.ops.softmax(layers.Dense(num_classes)(inputs)))


def softmax_nested(in_features: int, num_classes: int):
    return keras.Sequential([keras.Input((in_features,)), layers.Dense(8), softmax_layer(8, num_classes)])


def logits(in_features: int, num_classes: int):
    return keras.Sequential([keras.Input((in_features,)), layers.Dense(num_classes)])


@keras.saving.register_keras_serializable("mylab")
class Hidden(keras.Model):
    """Probabilities, which nobody sees from outside."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.last = units, layers.Dense(units)

    def build(self, shape):
        self.last.build(shape)

    def call(self, x):
        return keras.ops.softmax(self.last(x))

    def get_config(self):
        return super().get_config() | {"units": self.units}


def hidden(num_classes: int):
    return Hidden(num_classes)


@keras.saving.register_keras_serializable("mylab")
class Own(layers.Layer):
    def call(self, x):
        return 2 * x


def own_layer(in_features: int, num_classes: int):
    return keras.Sequential([keras.Input((in_features,)), Own(), layers.Dense(num_classes)])


@keras.saving.register_keras_serializable("mylab")
class Unseeded(layers.Layer):
    def call(self, x, training=False):
        return x + keras.random.normal(keras.ops.shape(x)) if training else x


def unseeded(in_features: int, num_classes: int):
    return keras.Sequential([keras.Input((in_features,)), Unseeded(), layers.Dense(num_classes)])


def code(in_features: int, num_classes: int):
    return keras.Sequential([keras.Input((in_features,)), layers.Lambda(lambda x: 2 * x), layers.Dense(num_classes)])


def pictures(input_shape, num_classes: int):
    return keras.Sequential([
        keras.Input(input_shape), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(),
        layers.GlobalAveragePooling2D(), layers.Dense(num_classes, activation="softmax"),
    ])


def scaled(input_shape, num_classes: int):
    return keras.Sequential([
        keras.Input(input_shape), layers.Rescaling(1 / 16), layers.Flatten(), layers.Dense(num_classes),
    ])


def table():
    return [1]
'''
SHORT = ("trainer=cpu", "trainer.max_epochs=3", "tracking.system_metrics=false", "threads=1")


@pytest.fixture(autouse=True)
def nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "")


@pytest.fixture
def nets(mylab: Path) -> Path:
    (mylab / "mylab" / "nets.py").write_text(NETS)
    return mylab


def keras_run(*overrides: str, builder: str | None = None, data: str = "iris") -> Parts:
    given = ["model=keras", *([f"model.builder=mylab.nets.{builder}"] if builder else []), f"data={data}", *SHORT]
    torch.manual_seed(0)
    return assemble(compose([*given, *overrides]), Signals())


def refusal(*overrides: str, builder: str | None = None, data: str = "iris") -> str:
    with pytest.raises(UserError) as caught:
        keras_run(*overrides, builder=builder, data=data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(folder: Path) -> Path:
    """1,000 rows of 20 features, of two kinds by a rule that is nearly linear."""
    random, path = np.random.default_rng(0), folder / "rows.npz"
    x = random.normal(5, 3, size=(1000, 20)).astype("float32")
    np.savez(path, x=x, y=((x - 5) @ random.normal(size=20) + random.normal(size=1000) > 0).astype(int))
    return path


# training ------------------------------------------------------------------------------------------------------------


def test_the_classic_net_learns(nets: Path) -> None:
    parts = keras_run(f"data.path={rows(nets)}", "trainer.max_epochs=15", builder="classic", data="npz")
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = nets / "checkpoints"
    assert sum(p.numel() for p in parts.model.parameters()) == 3457
    assert next(iter(dict(parts.model.named_parameters()))) == "net.dense/kernel"
    assert parts.model.remarks()[0].startswith("the sigmoid at the net's end is left out, as the loss takes logits")
    parts.trainer.fit(parts.model, datamodule=parts.data)
    assert parts.model.history["val/accuracy"][-1][1] > 0.88  # of equal classes


@pytest.mark.parametrize("form", ["dense", "activation", "layer", "operation", "nested"])
def test_no_softmax_is_trained_on_a_softmax(nets: Path, form: str) -> None:
    model = keras_run(builder=f"softmax_{form}").model.eval()
    import keras

    own = keras.saving.deserialize_keras_object(model.architecture)  # as its maker wrote it
    own.set_weights(model.net.weights())
    x = torch.randn(5, 4)
    with torch.no_grad():
        logits, probabilities = model.net(x), own(x)
    torch.testing.assert_close(logits.softmax(1), probabilities)
    assert not torch.allclose(logits.sum(1), torch.ones(5))
    assert model.remarks() and not keras_run(builder="logits").model.remarks()


def test_probabilities_that_cannot_be_seen_are_refused(nets: Path) -> None:
    assert "its outputs look like probabilities" in refusal(builder="hidden")


def test_layers_of_one_s_own_are_registered(nets: Path) -> None:
    path = nets / "mylab" / "nets.py"
    path.write_text(NETS.replace('@keras.saving.register_keras_serializable("mylab")\nclass Own', "class Own"))
    told = refusal(builder="own_layer")
    assert told.startswith("model.builder=mylab.nets.own_layer: Keras does not make the net again")
    assert "Full object config" not in told


def test_dropout_acts_in_training_alone_and_draws_from_torch(nets: Path) -> None:
    model = keras_run(builder="dropout").model
    x = torch.randn(8, 4)

    def outputs(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model(x).detach()

    model.train()
    assert torch.equal(outputs(1), outputs(1)) and not torch.equal(outputs(1), outputs(2))
    assert not any("seed" in name for name in model.state_dict())
    model.eval()
    assert torch.equal(outputs(1), outputs(2))


def test_random_state_that_cannot_be_restored_is_named(nets: Path) -> None:
    assert "the random state that keras.random takes without seed=: a resumed run could not" in refusal(
        builder="unseeded"
    )


def test_regularisers_count_in_training_and_not_in_the_loss_that_is_logged(nets: Path) -> None:
    parts = keras_run(builder="regularised")
    model, batch = parts.model.train(), parts.data.head("train", 8)
    loss = model.training_step(batch, 0)
    kernel = dict(model.named_parameters())["net.dense/kernel"]
    torch.testing.assert_close(loss - model.step(batch, "train"), 0.5 * kernel.square().sum())


def test_images_come_channels_last(nets: Path) -> None:
    parts = keras_run(builder="pictures", data="digits")
    assert parts.model.architecture["build_config"]["input_shape"] == [None, 8, 8, 1]
    assert not parts.model.net.raw_input
    assert keras_run(builder="scaled", data="digits").model.net.raw_input  # it begins with Rescaling
    assert not keras_run("model.raw_input=false", builder="scaled", data="digits").model.net.raw_input


def test_names_and_weights_do_not_depend_on_what_was_built_before(nets: Path) -> None:
    first, second = (keras_run(builder="dropout").model.state_dict() for _ in range(2))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_saved_net_brings_its_weights(nets: Path) -> None:
    import keras

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    net.compile(loss="categorical_crossentropy", optimizer="adam")
    net.save(nets / "net.keras")
    model = keras_run(f"model.path={nets / 'net.keras'}").model
    assert torch.equal(model.state_dict()[f"net.{net.layers[0].name}/kernel"], net.layers[0].kernel.value)
    assert model.remarks()[0].endswith("net.keras: the loss and optimizer that it was compiled with are not used")


# what does not go ----------------------------------------------------------------------------------------------------


def test_what_does_not_go_is_one_line(nets: Path) -> None:
    assert refusal(builder="clasic").endswith("mylab.nets has no clasic (did you mean classic?)")
    assert refusal("model.bilder=mylab.nets.classic").endswith("has no such option (did you mean builder?)")
    wrong = refusal("model.options.unit=3", builder="dropout")
    assert wrong == "model.options.unit: mylab.nets.dropout has no such argument (did you mean units?)"
    assert "fails on an input of shape (2, 4) (Input 0 with name" in refusal(builder="classic")
    assert refusal(builder="table") == "model.builder=mylab.nets.table makes a list, which is no keras.Model"
    assert "a Lambda layer holds code" in refusal(builder="code")
    assert "one of them makes the net" in refusal("model.path=x.keras", builder="classic")
    assert refusal("model.path=x.keras") == "model.path=x.keras: there is no such file"
    assert "expects a .keras file" in refusal("model.path=x.h5")
    (nets / "x.keras").write_text("nothing")
    assert "Keras cannot read it (File is not a zip file)" in refusal(f"model.path={nets / 'x.keras'}")


def test_a_file_with_code_is_refused_unread(nets: Path) -> None:
    import keras

    net = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(3)])
    net.save(nets / "code.keras")
    assert "a Lambda layer holds code" in refusal(f"model.path={nets / 'code.keras'}")


def test_another_backend_is_one_line() -> None:
    """Keras with a name of another backend; the backends themselves are no part of the tests."""
    text = "import sys; from types import ModuleType, SimpleNamespace; from importlib.machinery import ModuleSpec\n"
    text += "k = sys.modules['keras'] = ModuleType('keras'); k.__spec__ = ModuleSpec('keras', None)\n"
    text += "k.backend = SimpleNamespace(backend=lambda: 'jax')\n"
    text += "from src.models.components.keras_net import torch_keras; torch_keras('model=keras')"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert "UserError: model=keras: Keras was imported with the backend jax before; set KERAS_BACKEND=" in done.stderr


def test_keras_is_not_imported_to_tell_which_models_fit() -> None:
    text = "import sys; from src.experiment.build import families; assert 'keras' in families(); "
    done = subprocess.run([sys.executable, "-c", text + "assert 'keras' not in sys.modules"], cwd=ROOT)
    assert done.returncode == 0


# afterwards ----------------------------------------------------------------------------------------------------------


def saved(parts: Parts, path: Path, **changes: object) -> Path:
    """A checkpoint of an untrained model, some of its options changed."""
    description = parts.model.description()
    description["config"]["model"] |= changes
    save_atomically({"state_dict": parts.model.state_dict(), "labbook": description}, path)
    return path


def test_a_checkpoint_needs_neither_builder_nor_trust(nets: Path) -> None:
    parts = keras_run(builder="dropout")
    path = saved(parts, nets / "x.ckpt")
    assert parts.model.source_hashes.keys() == {"mylab", "mylab.nets"}
    (nets / "mylab" / "nets.py").unlink()
    x = torch.randn(5, 4)
    with torch.no_grad():
        assert torch.equal(load_model(path)(x), parts.model.eval()(x))


def test_a_checkpoint_runs_no_code_of_others(nets: Path) -> None:
    parts = keras_run(builder="own_layer")
    path = saved(parts, nets / "x.ckpt")
    with pytest.raises(UserError, match=r"mylab.nets.Own is not of this project; .*trust=mylab$"):
        load_model(path)
    crafted = saved(parts, nets / "y.ckpt", architecture=None, builder="mylab.nets.logits")
    with pytest.raises(UserError, match=r"mylab.nets.logits is not of this project; .*trust=mylab$"):
        load_model(crafted)
    ours = saved(parts, nets / "z.ckpt", architecture=None, builder="src.runtime.output.write")
    with pytest.raises(UserError, match=r"src.runtime.output.write is not of this project"):
        load_model(ours)
    evil = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
    with pytest.raises(UserError, match=r"os.function is not of this project"):
        load_model(saved(parts, nets / "o.ckpt", architecture=evil))
    trust.allow("mylab")
    load_model(path)
    load_model(crafted)


def test_loading_imports_no_package_that_a_checkpoint_lists(nets: Path) -> None:
    path = saved(keras_run(builder="logits"), nets / "x.ckpt")
    content = torch.load(path, weights_only=True)
    (nets / "strange").mkdir()
    (nets / "strange" / "__init__.py").write_text("raise SystemExit(5)")
    content["labbook"]["code"] = {"strange.part": "0"}
    torch.save(content, path)
    assert load_model(path).changed_code == ""


@pytest.mark.parametrize(
    ("builder", "data"),
    [
        ("softmax_layer", "iris"),
        ("logits", "iris"),
        ("pictures", "digits"),
        (None, "diabetes"),
        (None, "breast_cancer"),
    ],
)
def test_an_exported_file_answers_in_keras_as_the_model_does(nets: Path, builder: str | None, data: str) -> None:
    import keras

    parts = keras_run(builder=builder, data=data)
    model, batch = parts.model.eval(), parts.data.head("test", 9)
    export(Trained("here", model, None), "keras", nets / "out.keras")
    x = batch["input"].float()
    net = keras.saving.load_model(nets / "out.keras")
    with torch.no_grad():
        answers = net(x.movedim(1, -1) if x.ndim == 4 else x)
        expected = model.predict_step(batch, 0)
    scale = max(1.0, expected.abs().max())
    torch.testing.assert_close(answers.reshape(expected.shape) / scale, expected / scale, rtol=0, atol=1e-6)


def test_everything_afterwards_by_the_run_s_id(lab: Lab) -> None:
    write(lab.folder)
    (lab.folder / "mylab" / "nets.py").write_text(NETS)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}"}
    given = ["model=keras", "model.builder=mylab.nets.dropout", "data=iris", *SHORT, "trainer.max_epochs=6"]
    killed = lab.train(*given, env=env, kill=("validation", 3, signal.SIGKILL))
    assert killed.code == -signal.SIGKILL
    (run,) = lab.runs()
    refused = lab.train(f"resume={run.info.run_id}", env=env)
    assert (refused.code, refused.err.count("\n")) == (2, 1) and refused.err.endswith("trust=mylab\n")
    resumed = lab.train(f"resume={run.info.run_id}", "trust=mylab", env=env)
    assert resumed.code == 0, resumed.err
    whole = lab.train(*given, env=env)
    assert whole.code == 0, whole.err
    last, first = lab.runs()
    assert lab.points(first.info.run_id) == lab.points(last.info.run_id)  # to the last bit, with dropout
    evaluated = lab.run("evaluate", "run=last", "resamples=10", env=env)
    assert evaluated.code == 0 and "to the last bit" in evaluated.out, evaluated.err
    np.savez(lab.folder / "new.npz", x=np.random.default_rng(0).normal(size=(5, 4)).astype("float32"))
    answered = lab.run("predict", "run=last", "data.path=new.npz", "output=new.csv", env=env)
    assert answered.code == 0, answered.err
    for form in ("onnx", "keras"):
        done = lab.run("export", "run=last", f"format={form}", env=env)
        assert done.code == 0, done.err
    check = "import keras, numpy as np; net = keras.saving.load_model('model.keras'); x = np.load('new.npz')['x']\n"
    check += "rows = np.genfromtxt('new.csv', delimiter=',', skip_header=1)[:, -3:]\n"
    check += "print(abs(net.predict(x, verbose=0) - rows).max())"
    alone = subprocess.run(
        [sys.executable, "-c", check],
        cwd=lab.folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert alone.returncode == 0 and float(alone.stdout.split()[-1]) < 1e-6, alone.stderr
    verified = lab.run("rerun", "run=last", "verify=true", "trust=mylab", env=env)
    assert verified.code == 0 and "identical" in verified.out, verified.err
