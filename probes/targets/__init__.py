"""Where a run happens: a module for each kind of target, and store, which builds what they run in."""

from __future__ import annotations

from probes.targets import i386, store

RECIPES = {recipe.name: recipe for recipe in (store.BUSYBOX, i386.ROOT)}
"""Every artefact that can be built, by name."""

TARGETS: dict[str, store.Recipe | None] = {"local": None, "i386": i386.ROOT}
"""Every target by name, with the artefact it runs in. None: this machine as it is."""
