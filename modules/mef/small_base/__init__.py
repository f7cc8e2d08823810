"""A small latent diffusion model in diffusers' layout, for where no Stable Diffusion can be downloaded.

Run as a module it trains one ``--part`` after the other, ``autoencoder``, then ``denoiser``, which needs what the first
has written.  Their folder is a whole :class:`StableDiffusionPipeline`.
"""
