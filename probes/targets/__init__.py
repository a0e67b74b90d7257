"""Targets: where a run happens, and the artefacts that it needs there."""

from __future__ import annotations

from probes.targets import bare, box, debian, emulator, i386, pythons, vagrant
from probes.targets.store import Recipe
from probes.targets.target import LocalTarget, Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        LocalTarget("local", "this machine as it is"),
        i386.TARGET,
        *pythons.TARGETS,
        *vagrant.TARGETS.values(),
        *emulator.TARGETS.values(),
        *bare.TARGETS.values(),
    )
}
"""Every target by name."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        debian.BUSYBOX,
        i386.ROOT,
        *pythons.ROOTS,
        box.ROOT,
        *map(box.box, box.KERNELS),
        *emulator.RECIPES,
        *bare.RECIPES,
    )
}
"""Every artefact that can be built, by name."""
