# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of generated motion.

    renderer = build_renderer("sketch", face_basis=read_basis("face_basis.npz"))
    frames = renderer(sample)                      # uint8 (H, W, 3), one for each frame of the motion

``plots`` shows the curves of any motion. ``sketch`` draws a face; it needs to know what the codes mean. ``none`` draws
nothing.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.score_files import FaceBasis

AUTO, NOTHING = "auto", "none"
RENDERERS = (NOTHING, "plots", "sketch")

#: Draws a sample, frame by frame: RGB, uint8 ``(H, W, 3)`` with even sides.
Renderer = Callable[["Generated"], Iterator[np.ndarray]]


def build_renderer(name: str, face_basis: "FaceBasis | None" = None) -> Renderer | None:
    """Return a renderer.

    Args:
        name: One of :data:`RENDERERS`, or ``auto``: ``sketch`` where the meaning of codes is known, else ``plots``.
        face_basis: What the codes mean; None: that is not known.

    Raises:
        UsageError: The name is unknown, or the renderer needs the basis.
    """
    if name == AUTO:
        name = "plots" if face_basis is None else "sketch"
    if name not in RENDERERS:
        usage_error("unknown renderer", name, [AUTO, *RENDERERS])
    if name == NOTHING:
        return None
    if name == "plots":
        from espnet_av.avgen.render.plots import Plots

        return Plots(face_basis)
    if face_basis is None:
        usage_error("the sketch needs to know what face codes mean", fix="pass --face_basis FILE.npz, or draw plots")
    from espnet_av.avgen.render.sketch import Sketch

    return Sketch(face_basis)
