"""What makes LiteLLM's proxy wake models: loaded by the gateway process only."""
