"""The router's HTTP API. People and programs reach it through the gateway, which checks their key first."""
