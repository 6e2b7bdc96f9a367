"""The forms used for training are the functions that the host computes."""

import torch


def test_the_time_parallel_vae_equals_the_hosts_cached_one():
    from vae_model import build_vae, decode, encode

    vae = build_vae()
    for frames in (1, 5, 17):
        video = torch.randn(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(frames))
        with torch.no_grad():
            latent = encode(vae, video)
            torch.testing.assert_close(vae.encode(video), latent, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(vae.decode(latent), decode(vae, latent), rtol=1e-4, atol=1e-4)


def test_one_weighted_padding_token_equals_the_hosts_512_positions():
    from dit_model import build_dit, velocity

    model = build_dit()
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(shape, generator=generator) for shape in ((2, 16, 2, 4, 4), (2, 16, 256)))
    lengths, sigma = torch.tensor([5, 12]), torch.tensor([0.3, 0.9])
    padded = torch.zeros(2, 512, 256)
    with torch.no_grad():
        torch.nn.init.normal_(model.head.head.weight, std=0.1, generator=generator)  # it begins at zero
        for row, length in enumerate(lengths):
            context[row, length:] = 0
            padded[row, :length] = context[row, :length]
        mine = velocity(model, x, sigma, context, lengths, 1.0)
        torch.testing.assert_close(model(x, sigma * 1000, padded), mine, rtol=1e-4, atol=1e-5)
    assert mine.std() > 0.01
