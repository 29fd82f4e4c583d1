"""The rows, one module for each topic."""
