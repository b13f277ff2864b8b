"""The lifecycle core: who runs on the GPU, when, and for whom. Imports nothing of LiteLLM."""
