from mpfast.concurrent.futures.thread import *
