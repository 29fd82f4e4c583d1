import sys

if sys.version_info >= (3, 14):
    from concurrent.futures.interpreter import *
