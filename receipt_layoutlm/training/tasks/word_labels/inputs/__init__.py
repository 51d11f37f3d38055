"""Pages as model inputs: windows, encoded files, sampling, epochs, packing."""
