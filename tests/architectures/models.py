"""The architectures that people bring, by family, in one table."""

from __future__ import annotations

from collections.abc import Callable

from tests.architectures import adapted, convolutional, generative, sequence, torchvision_models
from tests.architectures.classification import Example

ARCHITECTURES: dict[str, Callable[[], Example]] = {
    f.__name__: f
    for f in (
        convolutional.resnet18,
        convolutional.bottleneck_resnet,
        convolutional.mobilenet_v2,
        convolutional.efficientnet,
        convolutional.convnext,
        generative.unet_transposed,
        generative.unet_bilinear,
        generative.unet_nearest,
        generative.autoencoder,
        generative.variational_autoencoder,
        sequence.vit_tiny,
        sequence.text_sinusoidal,
        sequence.text_learned,
        sequence.attention_pooling,
        sequence.gpt,
        sequence.lstm,
        sequence.gru,
        sequence.sensor,
        adapted.group_norm,
        adapted.instance_norm,
        adapted.rms_norm,
        adapted.lora,
        adapted.detector,
        torchvision_models.torchvision_resnet18,
        torchvision_models.torchvision_mobilenet_v3_small,
        torchvision_models.torchvision_vgg11_bn,
    )
}
