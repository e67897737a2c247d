"""What the coordinator service does a second: requests, deliveries, streams."""
