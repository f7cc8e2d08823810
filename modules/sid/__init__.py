"""SID, Semantic and Identity Disentanglement: the first stage."""
