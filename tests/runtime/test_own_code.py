"""The user's own code of a run: which modules it is, and which of them have changed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from src.errors import UserError
from src.runtime import own_code, trust

CONFIG = {"model": {"_target_": "mylab.models.Net"}, "optimizer": {"_target_": "torch.optim.AdamW"}, "seed": 1}


def test_modules_of_own_packages_are_known_by_name_and_hash(mylab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "mylab")
    import_module("mylab.models")

    found = own_code.hashes(CONFIG)
    assert sorted(found) == ["mylab", "mylab.models"] and own_code.change(found) == ""
    with (mylab / "mylab" / "models.py").open("a") as file:
        file.write("# another thought\n")
    assert own_code.change(found) == "the code has changed since the checkpoint was written: mylab.models"
    (mylab / "mylab" / "models.py").unlink()
    assert own_code.change(found) == "the code has changed since the checkpoint was written: mylab.models"


def test_trust_is_given_by_names_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.VARIABLE, "")
    assert not trust.is_trusted("mylab.models.Net") and trust.is_trusted("torch.optim.NAdam")
    trust.allow(["mylab"])
    trust.allow(None)
    assert trust.is_trusted("mylab.models.Net") and not trust.is_trusted("mylabor.models.Net")
    with pytest.raises(UserError, match=r"^trust=my/lab: expects the name of a package, such as trust=mypackage$"):
        trust.allow("my/lab")


@pytest.mark.parametrize(
    "target", ["os.system", "torch.hub.load", "torch.optim.sys.exit", "torch.load", "builtins.eval", "srcs.models.CNN"]
)
def test_code_that_nobody_named_is_not_trusted(target: str) -> None:
    assert not trust.is_trusted(target)


def test_a_name_of_ours_stands_for_code_of_ours() -> None:
    trust.check("src.models.CNN")
    with pytest.raises(UserError, match=r"^src.errors.difflib.get_close_matches is code of difflib, so it is not run$"):
        trust.check("src.errors.difflib.get_close_matches")


@pytest.mark.parametrize(
    "target",
    ["src.runtime.output.write", "src.runtime.own_code.imported", "src.errors.UserError", "src.models.load.load_model"],
)
def test_a_saved_file_names_no_functions_of_ours(target: str) -> None:
    """They write files, import names and start commands, and the file would give them their arguments."""
    with pytest.raises(UserError, match=f"^{target} is no model, layer, data, loss, metric, callback or optimizer"):
        trust.check_part(target)


@pytest.mark.parametrize(
    "target",
    ["src.models.CNN", "src.models.cnn.CNN", "src.training.callbacks.averaging.WeightAveraging", "torch.nn.GELU"],
)
def test_a_saved_file_names_parts_of_runs(target: str) -> None:
    trust.check_part(target)
