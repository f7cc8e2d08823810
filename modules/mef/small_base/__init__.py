"""A small latent diffusion model in diffusers' layout, for where no Stable Diffusion can be downloaded.

    python -m modules.mef.small_base --part autoencoder --config config/base-demo.yaml --out MEF_Checkpoints/base
    python -m modules.mef.small_base --part denoiser    --config config/base-demo.yaml --out MEF_Checkpoints/base

The second needs what the first has written.  The folder is a whole :class:`StableDiffusionPipeline`.
"""
