from mpfast.concurrent.futures.process import *
