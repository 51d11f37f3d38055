"""Changed copies of training pages."""
