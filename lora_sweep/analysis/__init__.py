"""What is measured on adapters after training. Needs no Ray."""
