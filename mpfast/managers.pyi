from multiprocessing.managers import *
from multiprocessing.managers import __all__ as __all__
from multiprocessing.managers import (
    BaseListProxy as BaseListProxy,
    ListProxy as ListProxy,
    Namespace as Namespace,
    RemoteError as RemoteError,
    Server as Server,
    SharedMemoryServer as SharedMemoryServer,
    ValueProxy as ValueProxy,
)
