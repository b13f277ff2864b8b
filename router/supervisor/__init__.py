"""The embedded server: a private Redis, the router and the gateway as child processes of one supervisor."""
