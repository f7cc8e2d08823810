"""DeepExpr: face reenactment with separate identity and expression embeddings."""
