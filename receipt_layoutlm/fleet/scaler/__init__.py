"""The code that the scaling Lambda ships."""
