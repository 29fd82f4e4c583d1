import sys

if sys.version_info >= (3, 14):
    from mpfast.concurrent.futures.interpreter import *
