"""What runs the engines: Docker, or child processes; both behind the interface in `base`."""
