from concurrent.futures._base import *
