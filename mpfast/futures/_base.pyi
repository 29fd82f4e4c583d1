from mpfast.concurrent.futures._base import *
