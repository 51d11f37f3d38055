"""The machine that a worker runs on: spot notices, disk, systemd, registry."""
