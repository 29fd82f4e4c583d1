"""The namespace of :mod:`mpfast.concurrent.futures`."""
