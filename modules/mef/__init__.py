"""Multi-Embedding Fusion: identity and expression embeddings in the cross-attention of Stable Diffusion."""
