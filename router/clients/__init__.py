"""What a client is told of this server: its provider entry, for the models that one key may use."""
