"""Other packages' interfaces over these kernels: change the import, keep the program."""
