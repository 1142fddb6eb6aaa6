"""What a worker takes from itself: as early as it can, and all the rest before its first prompt.

    harden   at its first line: no core dump, no debugger, no files to write, nothing inherited
    enter    before the model, or any library but Python's, is read: no new privileges, files by a list
             (Landlock), and the system calls that no model needs end it (seccomp)
    seal     before the first prompt: only the calls on a short list; no file is opened any more

None of it can be taken back by the process. engine/DESIGN.md tells what each layer stops.
"""

from appliance.engine.worker.sandbox.stages import Confinement, Sandbox, SandboxError

__all__ = ["Confinement", "Sandbox", "SandboxError"]
