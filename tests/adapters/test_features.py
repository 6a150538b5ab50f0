import torch

from evenreel.adapters.features import features_collected
from evenreel.backbones import layers
from tiny import SD1, tiny_unet


def run(unet, seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    return unet(latents, 401, encoder_hidden_states=torch.randn(2, 5, 32, generator=generator)).sample


def test_features_are_those_of_the_last_call_with_their_gradients():
    unet = tiny_unet(**SD1)
    with features_collected(unet) as features:
        assert not features
        run(unet, seed=1)
        first = {name: tensor.detach() for name, tensor in features.items()}
        output = run(unet, seed=2)
        assert tuple(features) == layers.decoder_self_attentions(unet)
        assert {tuple(tensor.shape) for tensor in features.values()} == {(2, 4, 32), (2, 16, 32), (2, 64, 32)}
        assert all(not torch.equal(features[name], first[name]) for name in features)
        sum(tensor.square().mean() for tensor in features.values()).backward()
        collected = output.detach()
    assert not features
    gradient = layers.attention(unet, layers.decoder_self_attentions(unet)[0]).to_q.weight.grad
    assert gradient.abs().max() > 0
    assert torch.equal(run(unet, seed=2), collected)
    assert not any(module._forward_hooks for module in unet.modules())


def test_layers_may_be_named():
    unet = tiny_unet()
    name = layers.text_attentions(unet)[3]
    with features_collected(unet, [name]) as features, torch.no_grad():
        run(unet)
        assert list(features) == [name]
