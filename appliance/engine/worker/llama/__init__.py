"""llama.cpp through llama-cpp-python's low-level bindings: the only room that imports them.

The library calls abort() on a dozen ordinary misuses, so everything that goes down is checked here
first.
"""

from appliance.engine.worker.llama.backend import LlamaBackend
from appliance.engine.worker.llama.library import LoadError

__all__ = ["LlamaBackend", "LoadError"]
