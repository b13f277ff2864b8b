"""The memory of the GPUs as it is measured: whether a stop has given it back, and what each model really takes."""
