"""Targets: where a run happens, and the artefacts that it needs there."""

from __future__ import annotations

from probes.targets import box, debian, emulator, i386, vagrant
from probes.targets.store import Recipe
from probes.targets.target import LocalTarget, Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        LocalTarget("local", "this machine as it is"),
        i386.TARGET,
        *vagrant.TARGETS.values(),
        *emulator.TARGETS.values(),
    )
}
"""Every target by name."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        debian.BUSYBOX,
        i386.ROOT,
        box.ROOT,
        *map(box.box, box.KERNELS),
        *emulator.RECIPES,
    )
}
"""Every artefact that can be built, by name."""
