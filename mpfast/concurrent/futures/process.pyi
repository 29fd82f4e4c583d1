from concurrent.futures.process import *
