from multiprocessing.resource_tracker import *
from multiprocessing.resource_tracker import __all__ as __all__
from multiprocessing.resource_tracker import (
    ResourceTracker as ResourceTracker,
    _resource_tracker as _resource_tracker,
    getfd as getfd,
    main as main,
)
