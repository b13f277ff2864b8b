"""How fast and how exact Hearth is: one command each, `python -m benchmarks.NAME`. See docs/performance.md."""
