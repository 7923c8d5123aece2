"""What listens to events and tells it to the tools that people already run."""
