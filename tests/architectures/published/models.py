"""Models of other people, taken from their packages as published; none is written for Hearth.

The packages are not dependencies.  `pip install --no-deps --target FOLDER torchvision==0.28.0
timm==1.0.31 transformers==5.23.0 vit-pytorch==1.26.11` and what these import; then FOLDER belongs
on PYTHONPATH.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hearth import TrainStep
from tests.architectures.classification import Example

BATCH = 2


def package(name: str) -> Any:
    """The imported package; torchvision without its compiled operators, which no model here uses.

    A wheel for another device than the machine's cannot load them, and the Python half registers
    shapes for them: it needs their names.
    """
    spec = find_spec("torchvision")
    if spec is not None and spec.submodule_search_locations:
        registrations = Path(spec.submodule_search_locations[0]) / "_meta_registrations.py"
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in set(re.findall(r"torchvision::(\w+)", registrations.read_text())):
            if not hasattr(torch.ops.torchvision, operator):
                library.define(f"{operator}(Tensor x, Tensor y, float z) -> Tensor")  # type: ignore[no-untyped-call]
        _LIBRARIES.append(library)
    return import_module(name)


_LIBRARIES: list[Any] = []  # what they define is gone with them


def classifier(model: nn.Module, size: int) -> Example:
    step = TrainStep(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.01))
    return step, torch.randn(BATCH, 3, size, size), torch.zeros(BATCH, dtype=torch.long)


def torchvision(name: str, size: int = 224, **options: Any) -> Example:
    models = package("torchvision.models")
    return classifier(getattr(models, name)(weights=None, **options), size)


def timm(name: str, size: int = 224) -> Example:
    package("torchvision")
    return classifier(package("timm").create_model(name), size)


def simple_vit() -> Example:
    kind = package("vit_pytorch").SimpleViT
    model = kind(image_size=64, patch_size=8, num_classes=10, dim=192, depth=6, heads=3,
                 mlp_dim=768)  # fmt: skip
    return classifier(model, 64)


def text(
    model: nn.Module, loss: Callable[..., torch.Tensor], vocabulary: int, targets: torch.Tensor
) -> Example:
    step = TrainStep(model, loss, torch.optim.AdamW(model.parameters(), 1e-4))
    return step, torch.randint(0, vocabulary, (BATCH, 48)), targets


def gpt2() -> Example:
    t = package("transformers")
    model = t.GPT2LMHeadModel(t.GPT2Config(n_layer=6, n_embd=384, n_head=6, use_cache=False))

    def loss(outputs: Any, wanted: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs["logits"][:, :-1].flatten(0, 1), wanted[:, 1:].flatten())

    return text(model, loss, 50257, torch.randint(0, 50257, (BATCH, 48)))


def distilbert() -> Example:
    t = package("transformers")
    model = t.DistilBertForSequenceClassification(t.DistilBertConfig(num_labels=4))

    def loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs["logits"], labels)

    return text(model, loss, 30522, torch.zeros(BATCH, dtype=torch.long))


class T5Classifier(nn.Module):
    """The encoder as published, and a linear layer on the mean."""

    def __init__(self) -> None:
        super().__init__()
        t = package("transformers")
        self.encoder = t.T5EncoderModel(t.T5Config())
        self.head = nn.Linear(512, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(input_ids=tokens).last_hidden_state.mean(1))


def t5_encoder() -> Example:
    labels = torch.zeros(BATCH, dtype=torch.long)
    return text(T5Classifier(), nn.CrossEntropyLoss(), 32128, labels)


PUBLISHED: dict[str, Callable[[], Example]] = {
    "torchvision resnet18": lambda: torchvision("resnet18"),
    "torchvision resnet50": lambda: torchvision("resnet50"),
    "torchvision vgg11_bn": lambda: torchvision("vgg11_bn"),
    "torchvision mobilenet_v3_small": lambda: torchvision("mobilenet_v3_small"),
    "torchvision efficientnet_b0": lambda: torchvision("efficientnet_b0"),
    "torchvision shufflenet_v2_x1_0": lambda: torchvision("shufflenet_v2_x1_0"),
    "torchvision squeezenet1_1": lambda: torchvision("squeezenet1_1"),
    "torchvision googlenet": lambda: torchvision("googlenet", aux_logits=False, init_weights=False),
    "torchvision convnext_tiny": lambda: torchvision("convnext_tiny"),
    "torchvision vit_b_16": lambda: torchvision("vit_b_16"),
    "torchvision swin_t": lambda: torchvision("swin_t"),
    "timm mixer_s32_224": lambda: timm("mixer_s32_224"),
    "timm resnetv2_50": lambda: timm("resnetv2_50"),
    "timm maxvit_pico_rw_256": lambda: timm("maxvit_pico_rw_256", 256),
    "vit-pytorch SimpleViT": simple_vit,
    "transformers GPT-2": gpt2,
    "transformers DistilBERT": distilbert,
    "transformers T5 encoder": t5_encoder,
}
