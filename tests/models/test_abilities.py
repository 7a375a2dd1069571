"""What only some models can do: which families can, and that general code is told nothing else."""

from __future__ import annotations

import pytest

from src.tasks import abilities
from tests.tiny import MODELS, family

ABLE = {
    "Attends": {"bert", "gpt", "pretrained", "t5", "vit"},
    "BringsTokenizer": {"pretrained"},
    "Embeds": {"embedder"},
    "EmbedsTokens": {"bert", "gpt", "gru", "lstm", "pretrained", "rnn"},
    "Encodes": {"autoencoder", "vae"},
    "ExplainsInPart": {"recommender", "torchvision_detector"},
    "Generates": {"gpt", "gru", "lstm", "pretrained", "rnn", "t5"},
    "LoadsPretrained": {"pretrained", "timm", "torchvision", "torchvision_detector"},
    "MadeOfFiles": {"onnx"},
    "MakesImages": {"autoencoder", "gan", "vae", "wgan"},
    "Remarks": {"keras"},
    "Samples": {"gan", "vae", "wgan"},
    "WritesKeras": {"keras"},
}


@pytest.mark.parametrize("name", ABLE)
def test_families_can_what_they_are_asked_for(name: str) -> None:
    protocol = getattr(abilities, name)
    assert {model for model in MODELS if issubclass(family(model), protocol)} == ABLE[name]


def test_every_ability_is_one_of_some_family() -> None:
    named = {name for name, value in vars(abilities).items() if getattr(value, "_is_protocol", False)}
    attributes = {"Policy", "SamplesClasses", "SearchesBeams"}  # which instances alone have
    assert named - {"Protocol"} == {*ABLE, *attributes}


def test_a_step_of_its_own_is_declared() -> None:
    own = {model for model in MODELS if family(model).owns_training_step}
    assert own == {"dqn", "gan", "policy", "ppo", "wgan"}
    assert {model for model in MODELS if not family(model).static_graph} == {"torchvision_detector"}
