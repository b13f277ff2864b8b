"""The `hearth` command: the embedded server, and the lifecycle API for people."""
