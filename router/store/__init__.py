"""Everything that the gateway and the router share, in Redis. Every check-and-act is one Lua script."""
