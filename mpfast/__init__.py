"""A drop-in for :mod:`multiprocessing` on native shared memory."""
