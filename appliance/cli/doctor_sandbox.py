"""What `appliance doctor` says of the workers' sandbox: which layers this host's kernel has."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.cli import doctor_device
from appliance.engine import devices
from appliance.engine.worker.sandbox import kernel
from appliance.engine_settings import Engine


@dataclass(frozen=True, slots=True)
class Layers:
    """What the kernel has; 0 and False: not, or not for us."""

    landlock_abi: int
    seccomp: bool
    gpu: bool = False  # a GPU is there, and its backend


def look(engine: Engine) -> Layers:
    """Asks the kernel; changes nothing."""
    seen = doctor_device.look()
    gpu = devices.will_load_gpu(engine.device, engine.n_gpu_layers) and seen.has_driver and seen.num_gpus > 0
    return Layers(kernel.landlock_abi(), kernel.has_seccomp(), gpu)


def judge(layers: Layers, engine: Engine) -> tuple[str, str, bool]:
    """(what is so, what to do, whether a model can be loaded with it). Nothing to do: all is well."""
    held = ["limits", "no_new_privileges"]
    held += [f"landlock_{layers.landlock_abi}"] if layers.landlock_abi else []
    held += ["seccomp_gpu" if layers.gpu else "seccomp"] if layers.seccomp else []
    missing = {
        "Landlock": "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= list",
        "seccomp": "x86-64, and a kernel or container that lets a process filter its own system calls",
    }
    if layers.landlock_abi:
        del missing["Landlock"]
    if layers.seccomp:
        del missing["seccomp"]
    says = f"a worker holds {' '.join(held)}" + (f"; no {' and no '.join(missing)}" if missing else "")
    if not missing:
        return says, "", True
    needs = "; ".join(missing.values())
    if engine.sandbox == "required":
        return says, f"engine.sandbox is 'required': no model is loaded. It needs {needs}", False
    return says, f"it needs {needs}; until then rely on appliance-worker@.service (guides/host.md)", True
