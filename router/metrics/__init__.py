"""What Prometheus reads of the router. docs/monitoring.md lists every metric."""
