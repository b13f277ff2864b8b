"""Trying a served model from outside, through the gateway, as any client would: `hearth smoke` and `hearth soak`."""
