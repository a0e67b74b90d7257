"""Where a run happens: a module for each kind of target, and store, which builds what they run in."""

from __future__ import annotations

from probes.targets import box, debian, i386, store

BOXES = {name: box.box(name) for name in box.KERNELS}
RECIPES = {recipe.name: recipe for recipe in (debian.BUSYBOX, i386.ROOT, box.ROOT, *BOXES.values())}
"""Every artefact that can be built, by name."""

TARGETS: dict[str, store.Recipe | None] = {"local": None, "i386": i386.ROOT}
TARGETS |= {f"vagrant:{name}": recipe for name, recipe in BOXES.items()}
"""Every target by name, with the artefact it runs in. None: this machine as it is."""
