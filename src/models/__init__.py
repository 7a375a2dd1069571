"""Models: one file a family. Their public names are stable: configurations say `_target_: src.models.CNN`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.runtime import lazy

if TYPE_CHECKING:
    from src.models.autoencoder import Autoencoder
    from src.models.base import Model
    from src.models.bert import BERT
    from src.models.cnn import CNN
    from src.models.detector import Detector
    from src.models.dlinear import DLinear
    from src.models.embedder import Embedder
    from src.models.fnn import FNN
    from src.models.gan import GAN
    from src.models.gpt import GPT
    from src.models.onnx_graph import OnnxGraph
    from src.models.own.keras import Keras
    from src.models.pretrained import Pretrained
    from src.models.recommender import Recommender
    from src.models.rl.dqn import DQN
    from src.models.rl.policy import Policy
    from src.models.rl.ppo import PPO
    from src.models.rnn import RNN
    from src.models.t5 import T5
    from src.models.timm_classifier import TimmClassifier
    from src.models.torchvision_classifier import TorchvisionClassifier
    from src.models.torchvision_detector import TorchvisionDetector
    from src.models.vae import VAE
    from src.models.vit import ViT

_PLACES = {
    "Autoencoder": "src.models.autoencoder",
    "BERT": "src.models.bert",
    "TorchvisionClassifier": "src.models.torchvision_classifier",
    "CNN": "src.models.cnn",
    "DLinear": "src.models.dlinear",
    "DQN": "src.models.rl.dqn",
    "Detector": "src.models.detector",
    "Embedder": "src.models.embedder",
    "FNN": "src.models.fnn",
    "GAN": "src.models.gan",
    "GPT": "src.models.gpt",
    "Keras": "src.models.own.keras",
    "Model": "src.models.base",
    "OnnxGraph": "src.models.onnx_graph",
    "PPO": "src.models.rl.ppo",
    "Policy": "src.models.rl.policy",
    "Pretrained": "src.models.pretrained",
    "RNN": "src.models.rnn",
    "Recommender": "src.models.recommender",
    "T5": "src.models.t5",
    "TimmClassifier": "src.models.timm_classifier",
    "TorchvisionDetector": "src.models.torchvision_detector",
    "VAE": "src.models.vae",
    "ViT": "src.models.vit",
}
__all__ = [
    "BERT",
    "CNN",
    "DQN",
    "FNN",
    "GAN",
    "GPT",
    "PPO",
    "RNN",
    "T5",
    "VAE",
    "Autoencoder",
    "DLinear",
    "Detector",
    "Embedder",
    "Keras",
    "Model",
    "OnnxGraph",
    "Policy",
    "Pretrained",
    "Recommender",
    "TimmClassifier",
    "TorchvisionClassifier",
    "TorchvisionDetector",
    "ViT",
]

__getattr__ = lazy.names(__name__, _PLACES)
