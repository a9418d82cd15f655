"""What the demo runs on: programs started in order, kept running and stopped in reverse."""
