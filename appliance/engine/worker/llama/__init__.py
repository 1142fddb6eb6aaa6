"""llama.cpp through llama-cpp-python's low-level bindings: the only room that imports them.

The library calls abort() on a dozen ordinary misuses, so everything that goes down is checked here
first.
"""

from appliance.engine.messages import LoadModel
from appliance.engine.worker.llama.backend import LlamaBackend
from appliance.engine.worker.llama.library import LoadError
from appliance.engine.worker.llama.vectors_only import VectorBackend

__all__ = ["LlamaBackend", "LoadError", "VectorBackend", "loaded"]


def loaded(load: LoadModel) -> LlamaBackend | VectorBackend:
    """The backend that does what the model is for. LoadError where it can not be had."""
    return LlamaBackend(load) if load.purpose == "chat" else VectorBackend(load)
